"""Which jobs a chain needs, and on what each one waits: a job per stage that is not settled, by the planner's steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nemo_cot.config import Config
from nemo_cot.config.cluster import SlurmCluster
from nemo_cot.errors import UserError
from nemo_cot.experiment.graph import Graph
from nemo_cot.experiment.planner import Step
from nemo_cot.launchers.slurm.record import Making


@dataclass(frozen=True)
class ChainJob(Making):
    """One job, which brings ``stage`` up to date, then those of ``also``, which want the same ``server``. ``key`` names it
    and its files; ``after`` are the keys that must end well before. ``resources``: which of cluster.resources it takes.

    ``overrides`` come behind the user's own. ``array``: the numbers of the chunks of ``stage`` that it makes,
    one task each. ``continued``: a later job goes on with this training. ``after_any``: it runs however the
    others ended. ``spare``: those behind it wait for its end, good or not. ``beside``: ids of jobs of other runs
    whose good end it waits for, since they make what this run reuses.
    """

    key: str
    stage: str
    resources: str
    after: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    array: tuple[int, ...] = ()
    continued: bool = False
    after_any: bool = False
    spare: bool = False
    beside: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    server: Any = None


def cluster_of(cfg: Config) -> SlurmCluster:
    """The cluster profile. Raises UserError when none is chosen."""
    if cfg.cluster.slurm is not None:
        return cfg.cluster.slurm
    raise UserError(
        "no cluster is chosen",
        where="cluster",
        fix="add cluster=slurm_8xh100, or a profile of your own (docs/slurm.md)",
    )


def chain_jobs(
    cfg: Config, graph: Graph, steps: Sequence[Step], elsewhere: Mapping[str, str] | None = None
) -> list[ChainJob]:
    """The jobs of ``steps`` (in the order of ``graph``) that are not settled, each behind those it needs.

    ``elsewhere``: stages that another run's job will have made by then, with its id; they get no job here.
    """
    open_ones = {step.stage.name for step in steps if not step.settled}
    others = {name: job for name, job in (elsewhere or {}).items() if name in open_ones}
    jobs: dict[str, ChainJob] = {}
    ends: dict[str, str] = {}  # stage -> the job whose good end means that it is done
    wholes = graph.wholes
    for step in steps:
        stage, name = step.stage, step.stage.name
        if step.settled or name in others or wholes.get(name) in others:
            continue
        after = tuple(dict.fromkeys(ends[need] for need in graph.needs(name) if need in ends))
        key = name.replace("/", "-")
        beside = tuple(dict.fromkeys(others[need] for need in graph.needs(name) if need in others))
        job = ChainJob(key, name, stage.resources, after, beside=beside, server=stage.server)
        if stage.found is not None:
            job = replace(job, after=tuple(jobs), after_any=True)
        elif name in wholes:
            job = _with_task(job, wholes[name], jobs)
        elif stage.recipe == "train":
            job = _behind_earlier_training(job, jobs, cluster_of(cfg).train_jobs)
        elif not beside and (early := _early_scores(step, job, ends, jobs)) is not None:
            _add(early, jobs)
            job = replace(job, after=(*after, early.key))
        job = _with_same_server(job, jobs)
        _add(job, jobs)
        ends[name] = job.key
    return list(jobs.values())


def _add(job: ChainJob, jobs: dict[str, ChainJob]) -> None:
    if job.key in jobs and jobs[job.key].stage != job.stage:  # of two subjects, such as base-chunks
        raise UserError(
            f"{job.key} would be the name of two jobs",
            where="evaluate.models, evaluate.sets",
            fix="rename the subject or the set",
        )
    jobs[job.key] = job


def _with_task(chunk: ChainJob, whole: str, jobs: Mapping[str, ChainJob]) -> ChainJob:
    """The array of the chunks of ``whole``, with ``chunk`` in it."""
    array = replace(chunk, key=f"{whole.replace('/', '-')}-chunks", stage=whole)
    before = jobs[array.key].array if array.key in jobs and jobs[array.key].stage == whole else ()
    return replace(array, array=(*before, int(chunk.stage.rpartition("-")[2])))


def _with_same_server(job: ChainJob, jobs: Mapping[str, ChainJob]) -> ChainJob:
    """``job``; or an earlier one that makes its stages too, with the server that is up: what they wait for is before it."""
    earlier: set[str] = set()
    for host in jobs.values() if job.server else ():
        earlier.add(host.key)
        if (host.recipe, host.server) == (job.recipe, job.server) and earlier.issuperset(job.after) and host.key != job.key:
            return replace(
                host,
                after=tuple(dict.fromkeys([*host.after, *(key for key in job.after if key != host.key)])),
                beside=tuple(dict.fromkeys([*host.beside, *job.beside])),
                also=tuple(dict.fromkeys([*host.also, *job.stages])),
                array=tuple(sorted({*host.array, *job.array})),
            )
    return job


def _behind_earlier_training(job: ChainJob, jobs: dict[str, ChainJob], count: int) -> ChainJob:
    """Adds all training jobs but the last; they end well when time is up, and the next one goes on."""
    for number in range(1, count):
        earlier = replace(job, key=f"{job.key}-{number}", continued=True)
        jobs[earlier.key] = earlier
        job = replace(job, after=(earlier.key,))
    return job


def _early_scores(
    step: Step, scores: ChainJob, ends: Mapping[str, str], jobs: Mapping[str, ChainJob]
) -> ChainJob | None:
    """A job that scores the subjects that need not wait for the training, where others do: should the training
    fail, the report has these scores. None where they are all sampled, and there are scores from then, and of
    stages that are no scores (evaluate/scores, evaluate/SET/scores).
    """
    if step.stage.recipe != "evaluate" or not step.stage.name.endswith("/scores"):
        return None
    needs = [
        need for need in step.stage.needs if need.startswith("evaluate/")
    ]  # not a model, for its tokenizer
    early = [need for need in needs if need not in ends or not _behind_training(ends[need], jobs)]
    after = tuple(ends[need] for need in early if need in ends)
    if not early or len(early) == len(needs) or (step.finished and not after):
        return None
    subjects = ",".join(need.rpartition("/")[2] for need in early)
    overrides = (f"evaluate.subjects=[{subjects}]",)
    return replace(scores, key=f"{scores.key}-early", after=after, overrides=overrides, spare=True)


def _behind_training(key: str, jobs: Mapping[str, ChainJob]) -> bool:
    job = jobs[key]
    return job.recipe == "train" or any(_behind_training(need, jobs) for need in job.after)
