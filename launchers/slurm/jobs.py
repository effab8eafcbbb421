"""Which jobs a chain needs, and on what each one waits. Finished stages make no job and no dependency."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nemo_cot.config import Config
from nemo_cot.config_cluster import SlurmCluster
from nemo_cot.errors import UserError
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.stages.engine import plan_stage
from nemo_cot.stages.manifest import MANIFEST, describe
from recipes.chain import needs


@dataclass(frozen=True)
class ChainJob:
    """One job. ``key`` names it and its files; ``after`` are the keys that must end well before.

    ``overrides`` come behind the user's own. ``array`` are the chunks of a job array, and ``array_key``
    the key that takes a task's number. ``part`` is what it locks of the run directory. ``continued``: a
    later job goes on with this training. ``after_any``: it runs however the others ended. ``merges``:
    its chunks are other jobs' work, and it only puts them together (and scores them).
    """

    key: str
    stage: str
    after: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    array: tuple[int, ...] = ()
    continued: bool = False
    after_any: bool = False
    merges: bool = False

    @property
    def work(self) -> str:
        """What cluster.resources go by: merging needs no GPU."""
        return "merge" if self.merges else self.stage

    @property
    def array_key(self) -> str | None:
        return f"{self.stage}.chunk" if self.array else None

    @property
    def part(self) -> str:
        """The training jobs of a chain are one part: they never run side by side."""
        return self.stage if self.stage == "train" else self.key


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
        self._append(ChainJob(stage, stage, after, merges=merges))

    def _append(self, job: ChainJob) -> None:
        self.jobs.append(job)
        self._last[job.stage] = job.key

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
        """Jobs that sample subjects by themselves: the base model while another one is trained, and chunks."""
        keys: tuple[str, ...] = ()
        for subject in self._cfg.evaluate.subjects:
            cfg = replace(self._cfg, evaluate=replace(self._cfg.evaluate, subjects=[subject]))
            own = self._after("evaluate", cfg)
            only = (f"evaluate.subjects=[{subject}]",)
            key = f"evaluate-{subject}"
            if cfg.evaluate.chunks > 1:
                keys += self._chunks("evaluate", cfg, own, key=f"{key}-chunks", overrides=only)
            elif own != after and not (not own and self._done("evaluate", cfg, f"evaluate/{subject}")):
                self.jobs.append(ChainJob(key, "evaluate", own, only))
                keys += (key,)
        return keys

    def _chunks(
        self, stage: str, cfg: Config, after: tuple[str, ...], *, key: str, overrides: tuple[str, ...] = ()
    ) -> tuple[str, ...]:
        """An array over the chunks that are not finished; none for a stage in one piece."""
        settings = getattr(cfg, stage)
        if settings.chunks == 1:
            return ()
        one = [replace(cfg, **{stage: replace(settings, chunk=i)}) for i in range(settings.chunks)]
        array = tuple(i for i, chunk in enumerate(one) if after or not self._done(stage, chunk))
        if not array:
            return ()
        self.jobs.append(ChainJob(key, stage, after, overrides, array))
        return (key,)

    def _done(self, recipe: str, cfg: Config, only: str = "") -> bool:
        """Whether every stage of ``recipe`` (whose name begins with ``only``) would be skipped."""
        stages = getattr(importlib.import_module(f"recipes.{recipe}"), recipe)
        try:
            return all(self._skipped(stage) for stage in _named(stages(cfg, self._run), only))
        except (UserError, OSError):  # something is missing: the job itself will say what
            return False

    def _skipped(self, stage: Stage) -> bool:
        if not (self._run.stage(stage.name) / MANIFEST).exists():
            return False  # before any input is hashed: it may be a model of 60 GB
        inputs = {label: describe(path, self._run.path, self._hasher) for label, path in stage.inputs.items()}
        return plan_stage(stage, self._run, inputs, self._hasher).action == "skip"


def _named(stages: Iterable[Stage], only: str) -> Iterable[Stage]:
    for stage in stages:
        if not stage.name.startswith(only):
            return
        yield stage
