"""What `nemo-cot plan` knows of a chain, in the form of --json; launchers/plan.py prints it for people."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nemo_cot.config import Config
from nemo_cot.config.rule import Span
from nemo_cot.experiment.examine import examine
from nemo_cot.experiment.graph import Graph, graph
from nemo_cot.experiment.planner import Step, plan_chain
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.preflight import Finding
from nemo_cot.preflight.durations import Duration, durations
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.preflight.rules import unasked
from nemo_cot.preflight.sampling_cost import Hours
from nemo_cot.preflight.suggest import Suggested, suggestions

VERSION = 1
"""Of the JSON: raised when a field goes or changes its meaning."""


class PlannedStage(msgspec.Struct):
    """A stage, with its chunks, of which ``parts`` are left to do. ``seconds`` are of one of them (of the stage, if it has
    none), ``gpu_hours`` of all; None where the stage is settled or it is not known. ``basis``: what they rest on.
    """

    name: str
    action: str
    why: str
    settled: bool
    parts: int
    seconds: Span | None
    gpu_hours: Span | None
    basis: str


class PlannedSampling(msgspec.Struct):
    """One sampled model. ``tensor_parallel`` GPUs for each of ``copies``; ``in_flight``: answers at a time."""

    stage: str
    model: str
    answers: int | None
    tokens_at_most: int | None
    tensor_parallel: int | None
    copies: int | None
    tokens_per_second: float | None
    in_flight: float | None
    unknown: str


class PlannedTraining(msgspec.Struct):
    """The stage train; bytes and operations are None where they are not known."""

    tokens_per_step: int
    packs_per_step: int
    operations: float | None
    formula: str
    memory_bytes: float | None
    memory_of: str
    host_bytes: float | None
    written_bytes: int | None
    disk_bytes: int | None
    overrides: dict[str, str]


class Planned(msgspec.Struct):
    """The whole plan. ``passed``: rules that found nothing; ``not_asked``: those that do not apply to this chain."""

    version: int
    run: str
    errors: int
    warnings: int
    passed: int
    not_asked: list[str]
    findings: list[Finding]
    stages: list[PlannedStage]
    parameters: int | None
    sampling: list[PlannedSampling]
    training: PlannedTraining | None
    gpu_hours: Span | None
    seconds: Span | None
    suggestions: list[Suggested]


def planned(cfg: Config, *, suggest: bool) -> Planned:
    """Plan the chain of ``cfg``. Writes nothing."""
    run = run_directory(cfg)
    elsewhere = cfg.cluster.slurm is not None
    chain = graph(cfg)
    cost, findings = examine(cfg, run, chain, elsewhere=elsewhere)
    stages = _stages(chain, plan_chain(chain, run), durations(cfg, chain.stages, cost, run))
    left = [stage for stage in stages if not stage.settled]
    return Planned(
        version=VERSION,
        run=str(run.path),
        errors=sum(f.level == "error" for f in findings),
        warnings=sum(f.level == "warning" for f in findings),
        passed=sum(f.level == "ok" for f in findings),
        not_asked=unasked(cfg, cost, elsewhere=elsewhere),
        findings=findings,
        stages=stages,
        parameters=cost.model.parameters,
        sampling=_sampling(cost),
        training=_training(cfg, cost) if "train" in cfg.launcher.stages else None,
        gpu_hours=_sum([stage.gpu_hours for stage in left]),
        seconds=_sum([stage.seconds and stage.seconds.times(stage.parts) for stage in left]),
        suggestions=suggestions(cfg, cost) if suggest else [],
    )


def _stages(chain: Graph, steps: Sequence[Step], took: dict[str, Duration]) -> list[PlannedStage]:
    """A row per stage; its chunks count as one with it."""
    found = []
    for step in (step for step in steps if not step.part):
        action, why = step.why
        parts = [p for p in steps if p.part and chain.wholes[p.stage.name] == step.stage.name and not p.settled]
        if parts and step.after and {part.stage.name for part in parts}.issuperset(step.after):
            action, why = parts[0].why
        own = [took[part.stage.name] for part in parts] or [took[step.stage.name]]
        hours = None if step.settled else _sum([one.gpu_hours for one in own])
        seconds, basis = (None, "") if step.settled else (own[0].seconds, own[0].basis)
        found.append(
            PlannedStage(step.stage.name, action, why, step.settled, max(1, len(parts)), seconds, hours, basis)
        )
    return found


def _sum(spans: Sequence[Span | None]) -> Span | None:
    known = [span for span in spans if span is not None]
    total = known[0] if known else None
    for span in known[1:]:
        total = total.plus(span) if total else span
    return total


def _sampling(cost: Estimate) -> list[PlannedSampling]:
    found = []
    for one in cost.sampling:
        hours, layout = one.hours, one.layout
        known = hours.sampled if isinstance(hours, Hours) else None
        found.append(
            PlannedSampling(
                stage=one.stage,
                model=one.use.label,
                answers=one.answers,
                tokens_at_most=one.tokens_at_most,
                tensor_parallel=layout.tensor if layout else None,
                copies=layout.copies if layout else None,
                tokens_per_second=known.tokens_per_second if known else None,
                in_flight=known.in_flight if known else None,
                unknown=hours if isinstance(hours, str) else "",
            )
        )
    return found


def _training(cfg: Config, cost: Estimate) -> PlannedTraining:
    own = cost.training
    given = getattr(cfg.train, "overrides", {})  # of a backend that takes keys of its own
    return PlannedTraining(
        tokens_per_step=cost.tokens_per_step,
        packs_per_step=cost.packs_per_step,
        operations=own.operations,
        formula=own.formula,
        memory_bytes=own.memory_bytes,
        memory_of=own.place,
        host_bytes=own.host_bytes,
        written_bytes=own.written_bytes,
        disk_bytes=own.disk_bytes,
        overrides={key: str(value) for key, value in given.items()},
    )
