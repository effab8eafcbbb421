"""The best few layouts for sampling and training, as overrides to copy: `plan --suggest`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from nemo_cot.config import Config
from nemo_cot.config.rule import Span
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.preflight.sampling_cost import Hours, SamplingCost, layout_of
from nemo_cot.training.backend import backend_of

_MOST = 3
_IN_PARALLEL = (16, 32, 48)
_COPIES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Suggested:
    """One layout for ``stage``. ``overrides``: empty for the one that is configured. ``memory_bytes`` is of the fullest
    GPU; of a server, what vLLM takes in any case.
    """

    stage: str
    overrides: tuple[str, ...]
    memory_bytes: float | None
    num_gpus: int
    seconds: Span
    gpu_hours: Span
    figures: str


def suggestions(cfg: Config, estimate: Estimate) -> list[Suggested]:
    """For each sampled stage, and training: the layouts with the fewest GPU-hours, best first."""
    first: dict[str, SamplingCost] = {}
    for cost in estimate.sampling:  # the subjects share one engine: laid out by the first
        first.setdefault(cost.use.key, cost)
    sampled = [one for cost in first.values() for one in _best(_sampling(cfg, cost))]
    return sampled + _best(_training(cfg, estimate))


def _best(found: Iterator[Suggested]) -> list[Suggested]:
    return sorted(found, key=lambda one: (one.gpu_hours.middle, len(one.overrides)))[:_MOST]


def _sampling(cfg: Config, cost: SamplingCost) -> Iterator[Suggested]:
    client = cost.use.engine.client
    if client is None or cost.layout is None:
        return
    own = getattr(client, "seeds_in_parallel", None)
    for copies, parallel in product(_COPIES, _IN_PARALLEL if own else (None,)):
        if client.server.num_gpus % copies:
            continue
        server = replace(client.server, data_parallel_size=copies)
        changed: dict[str, Any] = {"server": server} | ({"seeds_in_parallel": parallel} if own else {})
        engine = replace(client, **changed)
        if not cost.use.splits(server.tensor_parallel_size):
            continue
        tried = replace(cost, use=replace(cost.use, engine=engine), layout=layout_of(cfg, engine))
        hours, layout = tried.hours, tried.layout
        if not isinstance(hours, Hours) or layout is None:
            continue  # it does not fit
        values = {"server.data_parallel_size": copies, "seeds_in_parallel": parallel}
        before = {"server.data_parallel_size": client.server.data_parallel_size, "seeds_in_parallel": own}
        overrides = tuple(f"{cost.use.engine_key}.{k}={v}" for k, v in values.items() if v != before[k])
        sampled = hours.sampled
        figures = f"TP {layout.tensor} x {copies}, {sampled.tokens_per_second:,.0f} tokens/s, {sampled.in_flight:.0f} in flight"
        memory = layout.gpu.memory_bytes * layout.memory_share
        yield Suggested(cost.use.recipe, overrides, memory, layout.num_gpus, hours.seconds, hours.gpu_hours, figures)


def _training(cfg: Config, estimate: Estimate) -> Iterator[Suggested]:
    if "train" not in cfg.launcher.stages:
        return
    for one in backend_of(cfg.train).suggest(cfg, estimate.model, estimate.tokens_per_step):
        cost = one.cost
        if cost.seconds is not None:
            hours = cost.seconds.times(cost.num_gpus / 3600)
            yield Suggested("train", one.overrides, cost.memory_bytes, cost.num_gpus, cost.seconds, hours, cost.at)
