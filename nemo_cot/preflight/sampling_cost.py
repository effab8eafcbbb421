"""What sampling costs at most in tokens, and what so many tokens cost at least in GPU-hours."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.config import Config, h100
from nemo_cot.config.cluster import SlurmCluster, seconds_of_limit
from nemo_cot.config.model import ModelShape
from nemo_cot.config.rule import Found
from nemo_cot.preflight.engine_uses import EngineUse, engine_uses

_BF16 = 2


@dataclass(frozen=True)
class SamplingCost:
    """One sampled model. ``tokens_at_most``: every answer runs to its limit; None before the problems
    are there. ``gpu_hours_at_least``: of so many tokens (:func:`decode_seconds`); None where ``reason`` says.
    """

    stage: str
    label: str
    answers: int | None
    tokens_at_most: int | None
    gpu_hours_at_least: float | None
    num_gpus: int
    max_new_tokens: int
    reason: str = ""


def sampling_costs(
    cfg: Config, prompt_tokens: int, num_train: int | None, num_heldout: int | None
) -> tuple[SamplingCost, ...]:
    """The cost of each model that the chain samples; ``num_train`` and ``num_heldout`` count problems."""
    counts = {
        "generate": (num_train, cfg.generate.samples_per_problem),
        "refine": (num_train, cfg.generate.samples_per_problem),
        "evaluate": (num_heldout, cfg.evaluate.samples_per_problem),
    }
    return tuple(_cost(use, prompt_tokens + use.trace_tokens, *counts[use.stage]) for use in engine_uses(cfg))


def decode_seconds(shape: ModelShape, *, batch: int, num_gpus: int, context: float) -> float:
    """GPU-seconds per token that no engine in bf16 on H100 GPUs comes below: seconds x GPUs of a step / batch.

    A step makes one token of each of ``batch`` answers. It reads all weights once and the keys and
    values of ``context`` tokens of each answer (the roofline of decoding: Pope et al., arXiv
    2211.05102), at the full memory bandwidth; or it takes 2 x parameters operations per token at the
    full peak, if that is longer. No more answers than fit beside the weights are in a batch.
    Prompts, start-up and the last, thin batches are left out: it is a bound, not a forecast.
    Raises ValueError when the weights do not fit ``num_gpus``.
    """
    weights = _BF16 * shape.parameters
    cached = context * 2 * _BF16 * shape.layers * shape.kv_width
    room = num_gpus * h100.MEMORY_BYTES - weights
    if room <= 0:
        raise ValueError(f"its weights do not fit {num_gpus} GPUs of 80 GB")
    together = max(1.0, min(batch, room / cached))
    return max((weights / together + cached) / h100.BYTES_PER_SECOND, 2 * shape.parameters / h100.BF16_FLOPS)


def _cost(use: EngineUse, prompt_tokens: int, problems: int | None, samples: int) -> SamplingCost:
    answers = None if problems is None else problems * samples
    new = use.sampling.max_new_tokens
    tokens = None if answers is None else answers * new
    hours, reason, gpus, client = None, _unknown(use), 1, use.engine.client
    if client:
        gpus = client.server.num_gpus * client.server.num_nodes
    if client and not reason and tokens is not None and problems is not None and (shape := use.facts.shape):
        try:
            batch = min(client.in_flight(problems), answers or 1)
            seconds = decode_seconds(shape, batch=batch, num_gpus=gpus, context=prompt_tokens + new / 2)
            hours = tokens * seconds / 3600
        except ValueError as error:
            reason = str(error)
    return SamplingCost(use.stage, use.label, answers, tokens, hours, gpus, new, reason)


def _unknown(use: EngineUse) -> str:
    """Why no GPU-hours are given; empty where they can be."""
    if use.engine.client is None:
        return "hours depend on the machine: the embedded engine"
    if use.engine.client.server.base_url:
        return "hours depend on the server that is there"
    if not use.engine.client.server.takes_gpus:
        return "hours depend on the server's command"
    return "" if use.facts.shape else f"hours are known when config.json of {use.path} is here"


def sampling_fits_time(cfg: Config, cluster: SlurmCluster, costs: tuple[SamplingCost, ...]) -> Found:
    """A warning where a job's time limit is shorter than the bound of its share of the sampling."""
    labels: dict[tuple[str, str, str], list[str]] = {}
    for cost in costs:
        for found in _fits_time(cfg, cluster, cost):
            labels.setdefault(found, []).append(f"{cost.stage} {cost.label}")
    for (level, what, fix), names in labels.items():
        yield level, f"{', '.join(names)}: {what}", fix


def _fits_time(cfg: Config, cluster: SlurmCluster, cost: SamplingCost) -> Found:
    if cost.gpu_hours_at_least is None:
        yield "unknown", cost.reason or "the number of problems is not known yet", ""
        return
    key, resources = cluster.resources.of(cost.stage)
    chunks = getattr(getattr(cfg, cost.stage), "chunks", None)
    hours = cost.gpu_hours_at_least / cost.num_gpus / (chunks or 1)
    if hours * 3600 > seconds_of_limit(f"{key}.time_limit", resources.time_limit):
        yield (
            "warning",
            f"if every answer runs to its {cost.max_new_tokens} tokens, a job takes {hours:.1f} hours or more (memory "
            f"bandwidth of {cost.num_gpus} H100{f', {cost.stage}.chunks={chunks}' * bool(chunks)}); its limit is {resources.time_limit}",
            f"raise {f'{cost.stage}.chunks or ' * bool(chunks)}{key}.time_limit, or lower the limit of new tokens; a job that requeues "
            f"itself goes on (cluster.max_requeues={cluster.max_requeues})",
        )
