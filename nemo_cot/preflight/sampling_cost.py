"""What sampling costs: tokens at most, and hours by the simulation of the servers (nemo_cot.preflight.throughput)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.config.cluster import Placed, SlurmCluster, seconds_of_limit
from nemo_cot.config.engines import EndpointEngine
from nemo_cot.config.gpus import gpu_of
from nemo_cot.config.model import ModelShape
from nemo_cot.config.rule import Found, Span, rule, together
from nemo_cot.evaluation.sets import HeldOut
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.io.jsonl import count_lines
from nemo_cot.io.paths import user_path
from nemo_cot.preflight.engine_uses import EngineUse, engine_uses
from nemo_cot.preflight.throughput import (
    MEMORY_SHARE,
    MOST_SEQUENCES,
    Lengths,
    Requests,
    Sampled,
    ServerLayout,
    measured,
    simulate,
)
from nemo_cot.sampling.chunks import GENERATIONS
from nemo_cot.serving.vllm_options import value_of
from nemo_cot.stages import RunDirectory

ERROR = 1.3
"""The factor to both sides within which the simulation is believed."""
SHARE_OF_LIMIT = 0.5
"""Of the limit of new tokens that answers are taken to have where sampling.expected_tokens is null; between a quarter of
the limit and all of it for the range."""
_TABLES = (".csv", ".parquet", ".json")
_MOST_COUNTED = 5000
"""Answers whose lengths are read of those that were drawn before."""
NO_ASYNC = "--no-async-scheduling"
"""Without it vLLM schedules the next step while the GPUs compute: by default from 0.14 on (before, --async-scheduling lost
tokens of sequences that were thrown out of the cache, vLLM PR 26385)."""


@dataclass(frozen=True)
class Hours:
    """A simulation of one chunk: ``seconds`` with the server's start, ``gpu_hours`` of all chunks; what they rest on."""

    sampled: Sampled
    seconds: Span
    gpu_hours: Span
    assumed: str


@dataclass(frozen=True)
class SamplingCost:
    """One sampled model, of ``problems`` (None before they are there). ``layout``: of the server that a stage starts.
    ``drawn``: the file of answers that the stage has drawn before, perhaps with another config; it need not be there.
    """

    use: EngineUse
    problems: int | None
    prompt_tokens: int
    layout: ServerLayout | None
    drawn: Path | None = None

    @property
    def stage(self) -> str:
        """The stage that draws all of it, or merges its chunks."""
        return self.use.stage

    @property
    def answers(self) -> int | None:
        """Samples of all problems."""
        return None if self.problems is None else self.problems * self.use.samples

    @property
    def tokens_at_most(self) -> int | None:
        """If every answer runs to its limit."""
        return None if self.answers is None else self.answers * self.use.sampling.max_new_tokens

    @cached_property
    def lengths(self) -> tuple[tuple[Lengths, Lengths, Lengths], str]:
        """Of answers, at least, by the best guess and at most; and where they are from."""
        sampling, prompt = self.use.sampling, self.prompt_tokens
        if (own := measured(prompt, _counted(self.drawn))) is not None:
            return (own, own, own), f"answers of {own.mean:,.0f} tokens, as drawn before"
        new, expected = sampling.max_new_tokens, sampling.expected_tokens
        mean = min(new, expected or SHARE_OF_LIMIT * new)
        low, middle, high = (_lengths(prompt, m, new) for m in ((mean,) * 3 if expected else (new / 4, mean, new)))
        key = f"{self.use.key}.sampling.expected_tokens"
        return (low, middle, high), f"answers of {mean:,.0f} tokens ({key}{'' if expected else ' is null'})"

    @cached_property
    def hours(self) -> Hours | str:
        """What it takes, or why that is not known. Simulated when it is first asked for: it takes a second."""
        use, layout = self.use, self.layout
        client, shape = use.engine.client, use.facts.shape
        if reason := _unknown(use):
            return reason
        if self.problems is None or client is None or shape is None or layout is None:
            return "hours are known when the problems are there"
        lengths, source = self.lengths
        groups = client.groups(self.problems, -(-use.samples // use.chunks))
        try:
            low, middle, high = (simulated(shape, layout, own, groups, use.sampling.seeded) for own in lengths)
        except ValueError as error:
            return str(error)
        start = layout.start_seconds(shape)
        span = Span(low.seconds / ERROR + start, middle.seconds + start, high.seconds * ERROR + start)
        hours = span.times(use.chunks * layout.num_gpus / 3600)
        return Hours(middle, span, hours, f"{source}, {layout.gpu.name}")


def sampling_costs(
    cfg: Config, prompt_tokens: int, num_train: int | None, num_heldout: int | None, run: RunDirectory | None = None
) -> tuple[SamplingCost, ...]:
    """The cost of each model that the chain samples; ``num_train`` and ``num_heldout`` count the run's own problems.
    ``run``: where its stages' answers, and the problems of further sets, may be.
    """
    counts = {"train": num_train, "heldout": num_heldout}

    def problems(use: EngineUse) -> int | None:
        further = use.heldout if use.heldout and use.heldout.name else None
        return counts[use.part] if further is None else num_heldout_of(further, run)

    return tuple(
        SamplingCost(
            use,
            problems(use),
            prompt_tokens + use.trace_tokens,
            use.engine.client and layout_of(cfg, use.engine.client),
            run.stage(use.stage) / GENERATIONS if run else None,
        )
        for use in engine_uses(cfg)
    )


def num_heldout_of(one: HeldOut, run: RunDirectory | None) -> int | None:
    """Problems of a held-out set: those that are made, else by the config; None where they are not there, also while
    another job publishes its stage.
    """
    made = rows_of(run.stage(one.problems.stage) / one.problems.file) if run else None
    return num_problems(one.cfg, "heldout") if made is None else made


def num_problems(cfg: Config, part: str = "train") -> int | None:
    """Training or ``heldout`` problems; None where a file is not there, or its rows are no lines."""
    counts = dict(zip(("train", "heldout"), cfg.problems.counts))
    path = cfg.problems.files.get(part)
    if path is None:
        return counts[part]
    lines = getattr(cfg.problems, "format", "auto") in ("auto", "jsonl") and not path.endswith(_TABLES)
    return rows_of(user_path(path)) if lines else None


def rows_of(path: Path) -> int | None:
    """Rows of a JSON-lines file; None where there is none, also where another job takes it away meanwhile."""
    try:
        return count_lines(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def layout_of(cfg: Config, engine: EndpointEngine) -> ServerLayout | None:
    """How the copies of a model lie on the GPUs of the server that a stage starts; None where that is not known."""
    server = engine.server
    if not server.takes_gpus:
        return None
    gpu = gpu_of(cfg.cluster.slurm.gpu_type if cfg.cluster.slurm else None)
    return ServerLayout(
        server.tensor_parallel_size,
        server.data_parallel_size,
        gpu,
        overlapped=NO_ASYNC not in (*server.command, *server.arguments),
        memory_share=value_of(server, "--gpu-memory-utilization", MEMORY_SHARE),
        most_sequences=int(value_of(server, "--max-num-seqs", MOST_SEQUENCES)),
    )


@functools.lru_cache(maxsize=256)
def _lengths(prompt: int, mean: float, cap: int) -> Lengths:
    return Lengths.log_normal(prompt, mean, cap)


class _Counted(msgspec.Struct):
    """What is read of an answer."""

    num_generated_tokens: int = 0


def _counted(path: Path | None) -> list[int]:
    """The tokens of the first answers in ``path``; none where there is no such file, or another's."""
    try:
        with open(path or "", "rb") as lines:
            rows = [msgspec.json.decode(line, type=_Counted) for line in islice(lines, _MOST_COUNTED)]
    except (OSError, *DAMAGED):
        return []
    return [row.num_generated_tokens for row in rows if row.num_generated_tokens > 0]


def simulated(shape: ModelShape, layout: ServerLayout, lengths: Lengths, groups: tuple, seeded: bool) -> Sampled:
    """A chunk's simulation, with the figures of :meth:`EndpointEngine.groups`; of two subjects of one shape once.
    Raises ValueError as :func:`simulate` does.
    """
    key = (*vars(shape).values(), layout, lengths, groups, seeded)
    if key not in _FOUND:
        _FOUND[key] = simulate(shape, layout, lengths, Requests(*groups), seeded=seeded)
    return _FOUND[key]


_FOUND: dict[tuple, Sampled] = {}


def _unknown(use: EngineUse) -> str:
    """Why no GPU-hours are given; empty where they can be."""
    if use.engine.client is None:
        return "hours depend on the machine: the embedded engine"
    if use.engine.client.server.base_url:
        return "hours depend on the server that is there"
    if not use.engine.client.server.takes_gpus:
        return "hours depend on the server's command"
    return "" if use.facts.shape else f"hours are known when config.json of {use.path} is here"


@rule()
def sampling_time(cluster: SlurmCluster, of: Placed, costs: tuple[SamplingCost, ...]) -> Found:
    """Jobs that sample have time for it."""
    return together((cost.stage, found) for cost in costs for found in _fits_time(cluster, of, cost))


def _fits_time(cluster: SlurmCluster, of: Placed, cost: SamplingCost) -> Found:
    hours = cost.hours
    if isinstance(hours, str):
        yield "unknown", hours, ""
        return
    recipe, chunks = cost.use.recipe, cost.use.chunks
    key, resources = of(recipe)
    more = "" if cost.use.key == "refine" else f"{recipe}.chunks"
    if hours.seconds.middle > seconds_of_limit(f"{key}.time_limit", resources.time_limit):
        yield (
            "warning",
            f"a job takes about {hours.seconds.middle / 3600:.1f} hours ({hours.assumed}{more and f', {more}={chunks}'}); its "
            f"limit is {resources.time_limit}",
            f"raise {more and f'{more} or '}{key}.time_limit, or lower the limit of new tokens; a job that requeues "
            f"itself goes on (cluster.max_requeues={cluster.max_requeues})",
        )
