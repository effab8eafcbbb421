"""What the runs of a study have in common: stages that come out the same, before any of them has run.

A stage's fingerprint is known once its inputs are there. Before that, two stages are the same if name, version and
config are, and each input comes from the same file of the same stage, or from the same place outside the runs.
That decides what is done once and who waits for whom; what is reused then goes by the fingerprint, as ever.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
from omegaconf import DictConfig

from nemo_cot.config import Config
from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.compose import Composer
from nemo_cot.experiment.examine import examine
from nemo_cot.experiment.graph import Graph, graph
from nemo_cot.experiment.planner import Step, plan_chain
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.experiment.study import Chosen, Study, StudyRun
from nemo_cot.preflight import Finding
from nemo_cot.stages import Output, Source, Stage
from nemo_cot.training.backend import backend_of


@dataclass(frozen=True)
class PlannedRun:
    """A run of a study with its config, chain and plan. ``keys``: what tells each stage from others, by name;
    stages of several runs with the same key are the same. A stage that runs in any case (the report) has none.
    ``memory_bytes``: of a local training, where it is known.
    """

    run: StudyRun
    cfg: Config
    tree: Callable[[], DictConfig]
    chain: Graph
    steps: dict[str, Step]
    keys: dict[str, str]
    findings: Sequence[Finding]
    memory_bytes: float | None = None

    @property
    def name(self) -> str:
        """Its directory below the study's."""
        return self.run.name

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do, the report included."""
        return all(
            step.settled or (step.stage.found is not None and step.finished) for step in self.steps.values()
        )


@dataclass(frozen=True)
class StudyPlan:
    """``runs``: all runs of the study; ``chosen``: those that are meant now."""

    runs: list[PlannedRun]
    chosen: list[PlannedRun]

    def makers(
        self, queued: Mapping[str, PlannedRun] | None = None, live: Sequence[PlannedRun] = ()
    ) -> dict[str, PlannedRun]:
        """Which run has, or will make, each stage, by the stage's key: one that has it already, else the one in whose
        job it is ``queued``, else the first of those meant but ``live``, whose jobs are in the queue as they are.
        """
        found: dict[str, PlannedRun] = {}
        for planned in (*self.runs, *self.chosen):
            for name, key in planned.keys.items():
                step = planned.steps.get(name)
                if step is not None and step.action == "skip":
                    found.setdefault(key, planned)
        found = (queued or {}) | found
        for planned in self.chosen:
            for key in planned.keys.values() if planned not in live else ():
                found.setdefault(key, planned)
        return found


def plan_study(chosen: Chosen, *, elsewhere: bool | None = False) -> StudyPlan:
    """Compose, check and plan every run. Writes nothing. Raises UserError for a config that is none, naming the run.

    ``elsewhere``: as in preflight; None: where a run's config has a cluster.
    """
    composer, planned, images = Composer(), [], {}
    for run in chosen.study.runs:
        try:
            cfg = composer.config(run.overrides)
            _check_measures(chosen.study, cfg)
            meant, chain, directory = run.name in chosen.only, graph(cfg), run_directory(cfg)
            away = cfg.cluster.slurm is not None if elsewhere is None else elsewhere
            cost, findings = examine(cfg, directory, chain, elsewhere=away) if meant else (None, [])
            findings = [*findings, *(_training_image(run.name, cfg, images) if meant else ())]
        except UserError as error:
            if run.name not in chosen.only:
                continue
            raise UserError(error.what, where=f"run {run.name}, {error.where}", fix=error.fix) from None
        steps = {step.stage.name: step for step in plan_chain(chain, directory)}
        memory = cost.training.memory_bytes if cost and cfg.train.backend == "local" else None
        planned.append(PlannedRun(run, cfg, partial(composer.tree, run.overrides), chain, steps, stage_keys(chain), findings, memory))
    return StudyPlan(planned, [p for p in planned if p.name in chosen.only])


def _check_measures(study: Study, cfg: Config) -> None:
    """Raise UserError where a measure is on a held-out set that a run does not have."""
    for name in (measure.rpartition(".")[0] for measure in study.measures):
        if name and name not in cfg.evaluate.sets:
            there = ", ".join(cfg.evaluate.sets) or "none"
            raise UserError(
                f"is measured on the set {name}, which this run does not have (it has {there})",
                where=f"study {study.name}, measures",
                fix=f"set evaluate.sets.{name}.problems=FILE in the study's overrides, or leave it out of measures",
            )


def _training_image(name: str, cfg: Config, images: dict[str, tuple[str, str]]) -> Iterator[Finding]:
    """An error where another run trains in the same image with a backend that needs another one. ``images``: of the runs
    before, what each is, and for which run.
    """
    cluster, target = cfg.cluster.slurm, backend_of(cfg.train).image
    if cluster is None or cluster.container.runtime == "none" or "train" not in cfg.launcher.stages:
        return
    image = cluster.resources.train.image or cluster.container.image
    other, first = images.setdefault(image, (target, name)) if image and target else (target, "")
    if other != target:
        yield Finding(
            "study_images",
            "error",
            f"train={cfg.train.backend} needs the image {target}; {image} trains run {first}, which needs {other}",
            "name both images by the trainer: 'cluster.container.image=/images/${train.backend}.sqsh'",
        )


def refuse_study_errors(plan: StudyPlan) -> None:
    """Raise UserError for the first error of preflight in any run that is meant, with how many others have one;
    without any, print the warnings.
    """
    bad = [(p, f) for p in plan.chosen for f in p.findings if f.level == "error"]
    if not bad:
        print_study_warnings(plan)
        return
    planned, finding = bad[0]
    others = sorted({p.name for p, _ in bad} - {planned.name})
    more = f"; {len(others)} more runs have errors ({', '.join(others[:3])})" if others else ""
    raise UserError(
        f"{finding.what}{more}",
        where=f"run {planned.name}: preflight, {finding.rule}",
        fix=f"{finding.fix}, or leave the run out with --only",
    )


def print_study_warnings(plan: StudyPlan) -> None:
    """Print each warning of preflight once, with the number of runs that have it."""
    found: dict[str, list[str]] = {}
    for planned in plan.chosen:
        for finding in planned.findings:
            if finding.level == "warning":
                line = f"{finding.rule}: {finding.what}. Fix: {finding.fix}"
                found.setdefault(line, []).append(planned.name)
    for line, names in found.items():
        text = f"warning: preflight, {line} ({len(names)} runs, {names[0]} first)"
        print(one_line(text), file=sys.stderr, flush=True)


def stage_keys(chain: Graph) -> dict[str, str]:
    """A key per stage of ``chain``; those that find their inputs by themselves have none."""
    keys: dict[str, str] = {}
    for name, stage in chain.stages.items():
        if stage.found is None:
            keys[name] = _key(stage, keys)
    return keys


def _key(stage: Stage, keys: dict[str, str]) -> str:
    inputs = {label: _source(source, keys) for label, source in stage.inputs.items()}
    content = msgspec.json.encode([stage.name, stage.version, stage.config, inputs], order="deterministic")
    return hashlib.sha256(content).hexdigest()


def _source(source: Source, keys: dict[str, str]) -> str:
    if isinstance(source, Output):
        return f"{keys.get(source.stage, source.stage)} {source.file} {source.at}"
    if isinstance(source, partial):
        return f"{source.func.__module__}.{source.func.__qualname__} {source.args!r} {sorted(source.keywords.items())!r}"
    # Another function may hold anything: only the very same one is the same.
    return f"{id(source)}" if callable(source) else str(source)
