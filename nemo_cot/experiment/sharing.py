"""What the runs of a study have in common: stages that come out the same, before any of them has run.

A stage's fingerprint is known once its inputs are there. Before that, Graph.keys decides what is done once and who waits
for whom; what is reused then goes by the fingerprint, as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from omegaconf import DictConfig

from nemo_cot.config import Config
from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.compose import Composer
from nemo_cot.experiment.examine import examine
from nemo_cot.experiment.graph import Graph, graph, whole_graph
from nemo_cot.experiment.planner import Step, plan_chain
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.experiment.study import Chosen, StudyRun, scores_of
from nemo_cot.experiment.study_rules import check_measured, study_findings
from nemo_cot.preflight import Finding
from nemo_cot.training.backend import TrainingCost


@dataclass(frozen=True)
class PlannedRun:
    """A run of a study with its config, chain and plan. ``keys``: Graph.keys of its stages; ``scores``: those of what is
    compared. ``training``: what that costs; None for a run that is not meant.
    """

    run: StudyRun
    cfg: Config
    tree: Callable[[], DictConfig]
    chain: Graph
    steps: dict[str, Step]
    keys: dict[str, str]
    scores: tuple[str | None, ...]
    training: TrainingCost | None = None

    @property
    def name(self) -> str:
        """Its directory below the study's."""
        return self.run.name

    def open(self, stage: str) -> bool:
        """Whether ``stage`` is planned and not settled."""
        return stage in self.steps and not self.steps[stage].settled

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do, the report included."""
        return all(
            step.settled or (step.stage.found is not None and step.finished) for step in self.steps.values()
        )


@dataclass(frozen=True)
class StudyPlan:
    """``runs``: all runs of the study; ``chosen``: those that are meant now. ``findings``: of preflight about these, and
    about all together, each with whom it is about.
    """

    runs: list[PlannedRun]
    chosen: list[PlannedRun]
    findings: list[tuple[str, Finding]]

    def found(self, level: str) -> list[tuple[str, Finding]]:
        """The findings of ``level``."""
        return [one for one in self.findings if one[1].level == level]

    def lines(self, level: str) -> list[str]:
        """The findings of ``level``, each once, with whom it is about."""
        names: dict[str, list[str]] = {}
        for name, found in self.found(level):
            names.setdefault(f"{level}: preflight, {found.rule}: {found.what}. Fix: {found.fix}", []).append(name)
        whose = (own[0] if len(own) == 1 else f"{len(own)} runs, {own[0]} first" for own in names.values())
        return [one_line(f"{text} ({who})") for text, who in zip(names, whose)]

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
    composer = Composer()
    planned: list[PlannedRun] = []
    findings: list[tuple[str, Finding]] = []
    for run in chosen.study.runs:
        try:
            cfg = composer.config(run.overrides)
            check_measured(chosen.study, run, cfg)
            whole, directory, meant = whole_graph(cfg), run_directory(cfg), run.name in chosen.only
            chain = graph(cfg, whole)
            away = cfg.cluster.slurm is not None if elsewhere is None else elsewhere
            cost, own = examine(cfg, directory, chain, elsewhere=away) if meant else (None, [])
        except UserError as error:
            if run.name not in chosen.only:
                continue
            raise UserError(error.what, where=f"run {run.name}, {error.where}", fix=error.fix) from None
        steps = {step.stage.name: step for step in plan_chain(chain, directory)}
        keys = {name: key for name, key in whole.keys.items() if name in chain.stages}
        scores = scores_of(whole, run.subject, chosen.study.sets)
        tree = partial(composer.tree, run.overrides)
        planned.append(PlannedRun(run, cfg, tree, chain, steps, keys, scores, cost and cost.training))
        findings += [(f"run {run.name}", finding) for finding in own]
    plan = StudyPlan(planned, [p for p in planned if p.name in chosen.only], findings)
    findings += study_findings(plan, chosen)
    return plan


def refuse_study_errors(plan: StudyPlan) -> None:
    """Raise UserError for the first error of preflight, with how many others have one; without any, print the warnings."""
    bad = plan.found("error")
    if not bad:
        print_study_warnings(plan)
        return
    name, finding = bad[0]
    others = sorted({other for other, _ in bad} - {name})
    more = f"; {len(others)} more have errors ({', '.join(others[:3])})" if others else ""
    raise UserError(
        f"{finding.what}{more}",
        where=f"{name}: preflight, {finding.rule}",
        fix=f"{finding.fix}, or leave runs out with --only",
    )


def print_study_warnings(plan: StudyPlan) -> None:
    """Print each warning of preflight once, with the number of runs that have it; and what runs once, unlike others."""
    for line in plan.lines("warning"):
        print(line, file=sys.stderr, flush=True)
    for planned in plan.chosen:
        if idle := [key for key, value in planned.run.seeds.items() if value is None]:
            what = f"{planned.run.subject} is no other model with another {' or '.join(idle)}: not repeated over it"
            print(one_line(f"note: {planned.run.variant}: {what}"), flush=True)
