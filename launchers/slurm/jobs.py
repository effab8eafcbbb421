"""Which jobs a chain needs, and on what each one waits. Finished stages make no job and no dependency."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nemo_cot.config import Config
from nemo_cot.config.cluster import SlurmCluster
from nemo_cot.errors import UserError
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.stages.engine import plan_stage
from nemo_cot.stages.manifest import MANIFEST, describe
from nemo_cot.experiment.graph import needs

_SCORES = "evaluate-scores"
"""No subject's job: nobody may be called scores."""


@dataclass(frozen=True)
class ChainJob:
    """One job. ``key`` names it and its files; ``after`` are the keys that must end well before.

    ``overrides`` come behind the user's own. ``array`` are the chunks of a job array, and ``array_key``
    the key that takes a task's number. ``continued``: a later job goes on with this training.
    ``after_any``: it runs however the others ended. ``merges``: what it reads is other jobs' work, and it
    only puts that together (and scores it). ``works_on``: the stages of the run that it brings up to
    date, where that is not ``stage`` itself; a task of an array, its chunk of them.
    """

    key: str
    stage: str
    after: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    array: tuple[int, ...] = ()
    continued: bool = False
    after_any: bool = False
    merges: bool = False
    works_on: tuple[str, ...] = ()

    @property
    def work(self) -> str:
        """What cluster.resources go by: merging needs no GPU."""
        return "merge" if self.merges else self.stage

    @property
    def array_key(self) -> str | None:
        return f"{self.stage}.chunk" if self.array else None


def cluster_of(cfg: Config) -> SlurmCluster:
    """The cluster profile. Raises UserError when none is chosen."""
    if isinstance(cfg.cluster, SlurmCluster):
        return cfg.cluster
    raise UserError(
        "no cluster is chosen",
        where="cluster",
        fix="add cluster=slurm_8xh100, or a profile of your own (docs/slurm.md)",
    )


def chain_jobs(cfg: Config, run: RunDirectory, stages: Sequence[str]) -> list[ChainJob]:
    """The jobs of ``stages`` (in the chain's order) that are not finished, each behind those it needs."""
    planner = _Planner(cfg, run)
    for stage in stages:
        if stage != "report":
            planner.add(stage)
    if "report" in stages:
        keys = tuple(job.key for job in planner.jobs)
        planner.jobs.append(ChainJob("report", "report", keys, after_any=True))
    return planner.jobs


class _Planner:
    def __init__(self, cfg: Config, run: RunDirectory) -> None:
        self.jobs: list[ChainJob] = []
        self._cfg, self._run, self._hasher = cfg, run, run.hasher()
        self._last: dict[str, str] = {}  # stage -> the job whose good end means that it is done

    def add(self, stage: str) -> None:
        """Append the jobs of one stage."""
        after = self._after(stage, self._cfg)
        if not after and self._done(stage, self._cfg):
            return
        if stage == "generate":
            after += self._chunks("generate", self._cfg, after, key="generate-chunks")
        elif stage == "evaluate":
            after += self._sampled(after)
        elif stage == "train":
            after = self._earlier_training(after)
        merges = stage in ("generate", "evaluate") and getattr(self._cfg, stage).chunks > 1
        works_on = _evaluated(self._cfg.evaluate.subjects) if stage == "evaluate" else ()
        self.jobs.append(ChainJob(stage, stage, after, merges=merges, works_on=works_on))
        self._last[stage] = stage

    def _after(self, stage: str, cfg: Config) -> tuple[str, ...]:
        return tuple(self._last[need] for need in needs(stage, cfg) if need in self._last)

    def _earlier_training(self, after: tuple[str, ...]) -> tuple[str, ...]:
        """All training jobs but the last; they end well when time is up, and the next one goes on."""
        for number in range(1, cluster_of(self._cfg).train_jobs):
            job = ChainJob(f"train-{number}", "train", after, continued=True)
            self.jobs.append(job)
            after = (job.key,)
        return after

    def _sampled(self, after: tuple[str, ...]) -> tuple[str, ...]:
        """Jobs that sample subjects by themselves: chunks, and those that need not wait for the training."""
        if self._cfg.evaluate.chunks == 1:
            subjects = self._cfg.evaluate.subjects
            return self._beside_training(
                [s for s in subjects if self._after("evaluate", self._only(s)) != after]
            )
        keys: tuple[str, ...] = ()
        for subject in self._cfg.evaluate.subjects:
            cfg = self._only(subject)
            own, names = self._after("evaluate", cfg), (f"evaluate/{subject}",)
            key = f"evaluate-{subject}-chunks"
            keys += self._chunks("evaluate", cfg, own, key=key, overrides=_of([subject]), works_on=names)
        return keys

    def _beside_training(self, subjects: Sequence[str]) -> tuple[str, ...]:
        """A job a subject that only samples it (chunk 0 of 1), and one that scores them all: should the
        training fail, the report has these scores. A subject that is alone needs one job for both.
        """
        if len(subjects) == 1:
            return self._subject(subjects[0], _evaluated(subjects))
        keys = tuple(
            key for s in subjects for key in self._subject(s, (f"evaluate/{s}",), "evaluate.chunk=0")
        )
        if not keys:
            return ()
        scores = ChainJob(
            _SCORES, "evaluate", keys, _of(subjects), merges=True, works_on=_evaluated(subjects)
        )
        self.jobs.append(scores)
        return (*keys, scores.key)

    def _subject(self, subject: str, works_on: tuple[str, ...], *overrides: str) -> tuple[str, ...]:
        cfg = self._only(subject)
        own = self._after("evaluate", cfg)
        if not own and self._done("evaluate", cfg, f"evaluate/{subject}"):
            return ()
        key = f"evaluate-{subject}"
        self.jobs.append(ChainJob(key, "evaluate", own, (*_of([subject]), *overrides), works_on=works_on))
        return (key,)

    def _only(self, subject: str) -> Config:
        return replace(self._cfg, evaluate=replace(self._cfg.evaluate, subjects=[subject]))

    def _chunks(
        self,
        stage: str,
        cfg: Config,
        after: tuple[str, ...],
        *,
        key: str,
        overrides: tuple[str, ...] = (),
        works_on: tuple[str, ...] = (),
    ) -> tuple[str, ...]:
        """An array over the chunks that are not finished; none for a stage in one piece."""
        settings = getattr(cfg, stage)
        if settings.chunks == 1:
            return ()
        one = [replace(cfg, **{stage: replace(settings, chunk=i)}) for i in range(settings.chunks)]
        array = tuple(i for i, chunk in enumerate(one) if after or not self._done(stage, chunk))
        if not array:
            return ()
        self.jobs.append(ChainJob(key, stage, after, overrides, array, works_on=works_on))
        return (key,)

    def _done(self, recipe: str, cfg: Config, only: str = "") -> bool:
        """Whether every stage of ``recipe`` (whose name begins with ``only``) would be skipped."""
        stages = getattr(importlib.import_module(f"nemo_cot.recipes.{recipe}"), recipe)
        try:
            return all(self._skipped(stage) for stage in _named(stages(cfg, self._run), only))
        except (UserError, OSError):  # something is missing: the job itself will say what
            return False

    def _skipped(self, stage: Stage) -> bool:
        if not (self._run.stage(stage.name) / MANIFEST).exists():
            return False  # before any input is hashed: it may be a model of 60 GB
        inputs = {label: describe(path, self._run.path, self._hasher) for label, path in stage.inputs.items()}
        return plan_stage(stage, self._run, inputs, self._hasher).action == "skip"


def _of(subjects: Sequence[str]) -> tuple[str, ...]:
    return (f"evaluate.subjects=[{','.join(subjects)}]",)


def _evaluated(subjects: Sequence[str]) -> tuple[str, ...]:
    """What `evaluate` brings up to date for ``subjects``."""
    return (*(f"evaluate/{subject}" for subject in subjects), "evaluate/scores")


def _named(stages: Iterable[Stage], only: str) -> Iterable[Stage]:
    for stage in stages:
        if not stage.name.startswith(only):
            return
        yield stage
