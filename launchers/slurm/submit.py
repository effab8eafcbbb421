"""nemo-cot submit: put the chain into Slurm's queue, in one go, each job behind those that it needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nemo_cot.config import Config
from nemo_cot.config.cluster import seconds_of_limit
from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment import groups
from nemo_cot.experiment.compose import EXTRA_CONF, compose_config, to_dataclasses, to_yaml
from nemo_cot.experiment.examine import examine, refuse_errors
from nemo_cot.experiment.graph import graph
from nemo_cot.experiment.planner import plan_chain, print_replaced, reuse_chain
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.io.atomic import write_bytes
from nemo_cot.launchers.slurm import scheduler
from nemo_cot.launchers.slurm.jobs import ChainJob, chain_jobs, cluster_of
from nemo_cot.launchers.slurm.live import live_jobs_of, refuse_live_jobs
from nemo_cot.launchers.slurm.record import (
    Submission,
    SubmittedJob,
    folder_of,
    read_submission,
    write_json,
    write_submission,
)
from nemo_cot.launchers.slurm.render import Chain, job_arguments, log_pattern, render_script
from nemo_cot.launchers.slurm.snapshot import snapshot
from nemo_cot.provenance import utc_now
from nemo_cot.sampling.chunks import chunk_stage
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import run_lock
from nemo_cot.stages.outside import hash_outside
from nemo_cot.training.backend import backend_of, job_size

DRY_RUN = "--dry-run"
_NO_JOB = "every stage is finished: there is nothing to submit"


def submit_chain(arguments: Sequence[str]) -> int:
    """Write the job files and submit them. Returns 0.

    --dry-run writes them into a folder of their own and changes nothing else: jobs in the queue read
    theirs when they start. Raises UserError for what preflight or sbatch refuses, with nothing left in
    the queue, and when jobs of this run are queued or running.
    """
    dry_run, overrides = DRY_RUN in arguments, [a for a in arguments if a != DRY_RUN]
    tree = compose_config(overrides)
    cfg = to_dataclasses(tree)
    run = run_directory(cfg)
    check_place(cfg, run, overrides)
    refuse_errors(examine(cfg, run, graph(cfg), elsewhere=True)[1])
    check_time(cfg)
    run.create()
    if dry_run:
        _warn_of_live_jobs(run.path)
        if (queued := rehearse(cfg, run, overrides)) is not None:
            queued.show()
    elif (queued := queue_chain(cfg, run, overrides, tree)) is not None:
        release([queued])
        queued.show()
    return 0


@dataclass(frozen=True)
class Queued:
    """A chain whose jobs have files and, but for a rehearsal, ids; those that wait for no other do not start yet."""

    chain: Chain
    jobs: Sequence[ChainJob]
    names: dict[str, str]
    submitted: list[SubmittedJob]

    def show(self) -> None:
        """Print the table of its jobs."""
        _print(self.jobs, self.submitted, self.names, self.chain)


def check_place(cfg: Config, run: RunDirectory, overrides: Sequence[str]) -> None:
    """Raise UserError without a cluster, and for files and folders that jobs cannot use."""
    cluster_of(cfg)
    _refuse_own_files(overrides)
    _check_path(run.path)


def _refuse_own_files(overrides: Sequence[str]) -> None:
    """A config file given by its path is no part of the snapshot: it may change before a job reads it."""
    for override in overrides:
        key, _, value = override.partition("=")
        if value.strip("'\"").endswith(".yaml") and groups.is_group(groups.group_of(key)):
            raise UserError(
                "jobs would read this file when they start, changed or not",
                where=override,
                fix=f"put it into a folder DIR/{groups.group_of(key)}, set NEMO_COT_CONFIG_DIR=DIR, which is "
                f"copied, and choose it by name: {key}={Path(value).stem}",
            )


def copy_of_code(folder: Path, runs_dir: Path) -> Path:
    """The code as it is now, in ``folder``, where the jobs find it."""
    extra = os.environ.get(EXTRA_CONF)
    return snapshot(folder, runs_dir=runs_dir, extra_conf=Path(extra).resolve() if extra else None)


def rehearse(
    cfg: Config,
    run: RunDirectory,
    overrides: Sequence[str],
    elsewhere: Mapping[str, str] | None = None,
    code: Path | None = None,
) -> Queued | None:
    """Write the job files of a dry run; None where nothing is to be done. ``elsewhere``, ``code``: as in
    :func:`queue_chain`.
    """
    jobs = _jobs(cfg, run, dry_run=True, elsewhere=elsewhere)
    if not jobs:
        return None
    chain = _chain(cfg, run, overrides, code, dry_run=True)
    return Queued(chain, jobs, _write_files(jobs, chain), jobs_record(jobs, chain))


def queue_chain(
    cfg: Config,
    run: RunDirectory,
    overrides: Sequence[str],
    tree: DictConfig,
    elsewhere: Mapping[str, str] | None = None,
    code: Path | None = None,
) -> Queued | None:
    """Put the jobs of one chain into the queue, to be released; None where nothing is to be done. ``elsewhere``: as
    in :func:`chain_jobs`. ``code``: the copy that the jobs run; None: one in the run's own directory.
    """
    refuse_live_jobs(run.path)  # before the lock, which the jobs of a chain hold as well
    with run_lock(run.path):
        refuse_live_jobs(run.path)  # another submission may have held the lock until now
        jobs = _jobs(cfg, run, dry_run=False, elsewhere=elsewhere)
        if not jobs:
            return None
        chain = _chain(cfg, run, overrides, code)
        if all(job.after_any for job in jobs):
            print("every stage is finished; only the report is made anew", flush=True)
        # Of an array one chunk stands for all.
        stages = [chunk_stage(s, job.array[0]) if job.array else s for job in jobs for s in job.stages]
        hash_outside([graph(cfg).stages[stage] for stage in stages], run)
        names = _write_files(jobs, chain)
        write_bytes(run.path / "config.yaml", to_yaml(tree).encode("utf-8", "surrogateescape"))
        return Queued(chain, jobs, names, _submit(jobs, names, chain))


def _jobs(
    cfg: Config, run: RunDirectory, *, dry_run: bool, elsewhere: Mapping[str, str] | None
) -> list[ChainJob]:
    """The jobs of what is not settled; says what is reused and replaced, and when there is none."""
    chain = graph(cfg)
    looked_at = run_directory(cfg)
    print_replaced(plan_chain(chain, looked_at), looked_at)
    jobs = chain_jobs(cfg, chain, reuse_chain(chain, run, dry_run=dry_run), elsewhere)
    if not jobs:
        print(_NO_JOB, flush=True)
    return jobs


def _warn_of_live_jobs(run: Path) -> None:
    """What `submit` would say now; without Slurm here, and without an earlier chain, there is nothing to ask."""
    if not folder_of(run).is_dir() or shutil.which("squeue") is None:
        return
    try:
        refuse_live_jobs(run)
    except UserError as error:
        print(one_line(f"warning: submit would be refused now: {error}"), flush=True)


def _chain(
    cfg: Config, run: RunDirectory, overrides: Sequence[str], code: Path | None, *, dry_run: bool = False
) -> Chain:
    code = code or copy_of_code(run.path, run.path.parent)
    return Chain(cfg, run.path, code, Path.cwd(), tuple(overrides), bool(os.environ.get(EXTRA_CONF)), dry_run)


def _check_path(run: Path) -> None:
    """Slurm takes the logs' folder apart as a pattern: % begins a job's number, and a backslash is dropped."""
    if not set("%\\").isdisjoint(str(run)):
        raise UserError(
            "Slurm cannot write logs below a path with a percent sign or a backslash",
            where=str(run),
            fix="choose another place with runs_dir=DIR",
        )


def check_time(cfg: Config) -> None:
    """A backend that saves and stops by itself must be done with it before Slurm's warning."""
    key, resources = cluster_of(cfg).resources.of("train")
    limit = seconds_of_limit(f"{key}.time_limit", resources.time_limit)
    seconds = backend_of(cfg.train).seconds_per_job(cfg)
    if seconds is not None and seconds > limit - cluster_of(cfg).warning_seconds:
        raise UserError(
            f"with its start and its save a training job takes {seconds} s, and does not end "
            f"{cluster_of(cfg).warning_seconds} s (cluster.warning_seconds) before its {resources.time_limit}: it would be "
            "stopped, and lose the steps since its last save",
            where="train.max_time_per_run",
            fix=f"lower it, or raise {key}.time_limit",
        )


def _write_files(jobs: Sequence[ChainJob], chain: Chain) -> dict[str, str]:
    """The sbatch and JSON file of every job; those of an earlier chain go. Returns their names by key."""
    names = {job.key: f"{number:02d}-{job.key}" for number, job in enumerate(jobs, 1)}
    files = {}
    for job in jobs:  # all of them are rendered before the first is written
        files[job.key] = render_script(job, chain, names[job.key]), job_arguments(job, chain)
    chain.folder.mkdir(parents=True, exist_ok=True)
    if not chain.dry_run:
        (chain.folder / Path(log_pattern(jobs[0], chain)).parent).mkdir(parents=True, exist_ok=True)
    for old in (*chain.folder.glob("*.sbatch"), *chain.folder.glob("[0-9]*.json")):
        if old.stem not in names.values():
            old.unlink(missing_ok=True)
    for key, (script, arguments) in files.items():
        write_bytes(chain.folder / f"{names[key]}.sbatch", script)
        write_json(chain.folder / f"{names[key]}.json", arguments)
    return names


def jobs_record(jobs: Sequence[ChainJob], chain: Chain) -> list[SubmittedJob]:
    """The jobs without ids."""
    return [
        SubmittedJob(job.key, job.stage, "", [*job.after], log_pattern(job, chain), [*job.array], [*job.also])
        for job in jobs
    ]


def _submit(jobs: Sequence[ChainJob], names: dict[str, str], chain: Chain) -> list[SubmittedJob]:
    """Submit all jobs; those that wait for no other may not start before all are in the queue.

    So nothing runs of a chain that sbatch refuses halfway, and no job ends before the next one names it. The
    record is written before the first job, so that a kill leaves none that nemo-cot cancel does not find.
    """
    here, recipes = scheduler.cluster_name(), graph(chain.cfg).recipes
    _check_nodes(jobs, chain.cfg)
    records = {record.key: record for record in jobs_record(jobs, chain)}
    before = read_submission(chain.run)
    submission = Submission(utc_now(), here, chain.code.name, list(chain.overrides), recipes, [])
    environment = scheduler.chosen(cluster_of(chain.cfg).pass_environment)
    if before is not None and before.cluster != here:
        other = f"the last chain was submitted to the cluster {before.cluster}"
        print(one_line(f"note: {other}; whether jobs of it are left there cannot be seen from {here}"))
    try:
        for job in jobs:
            write_submission(chain.run, replace(submission, jobs=list(records.values())))
            script = chain.folder / f"{names[job.key]}.sbatch"
            found = scheduler.sbatch(_dependency(job, jobs, records), script, environment)
            records[job.key] = replace(records[job.key], id=found)
        write_submission(chain.run, replace(submission, jobs=list(records.values())))
    except BaseException:
        with suppress(UserError):
            _cancel(chain.run, records.values())
        if not any(record.id for record in records.values()):
            write_submission(chain.run, before)
        raise
    return list(records.values())


def _check_nodes(jobs: Sequence[ChainJob], cfg: Config) -> None:
    """Print which jobs wait for nodes that are down or drained. Raises UserError for one that asks for more nodes
    than its partition has, which Slurm would keep for ever.
    """
    cluster, partitions, later = cluster_of(cfg), scheduler.partitions(), {}
    for job in jobs:
        key, resources = cluster.resources.of(job.resources)
        name = resources.partition or cluster.partition or ""
        wanted, nodes = job_size(cfg, job)[0], partitions.get(name)
        if nodes is None:  # several, or one that sbatch will refuse
            continue
        if wanted > nodes.there:
            raise UserError(
                f"{wanted} nodes, and the partition has {nodes.there}",
                where=f"{key}.nodes",
                fix="ask for less, or set cluster.partition to another of `sinfo -s`",
            )
        if wanted > nodes.up:
            later[job.key] = f"{nodes.up} of {nodes.there} nodes are up"
    if later:
        key, why = next(iter(later.items()))
        more = f" (and {len(later) - 1} more)" if len(later) > 1 else ""
        print(one_line(
            f"note: {why} where {key}{more} will run, the others are down or drained; it waits in the queue for them"
        ), flush=True)  # fmt: skip


def release(queued: Sequence[Queued]) -> None:
    """Only now, with the locks given back and every chain in the queue, may the first jobs start."""
    try:
        scheduler.release([job.id for one in queued for job in one.submitted if not job.after])
    except BaseException:
        for one in queued:
            with suppress(UserError):
                _cancel(one.chain.run, one.submitted)
        raise


def _dependency(job: ChainJob, jobs: Sequence[ChainJob], done: dict[str, SubmittedJob]) -> list[str]:
    if not job.after and not job.beside:
        return [scheduler.NOT_YET]
    # Of several stages the one that is needed may be there when another has failed; if it is not, the job says so.
    several = {other.key for other in jobs if other.also and other.recipe == job.recipe}
    ended = [o.key for o in jobs if o.key in job.after and (o.spare or job.after_any or o.key in several)]
    good = [*(done[key].id for key in job.after if key not in ended), *job.beside]
    kinds = {"afterok": good, "afterany": [done[key].id for key in ended]}
    conditions = [":".join((kind, *ids)) for kind, ids in kinds.items() if ids]
    return [f"--dependency={','.join(conditions)}"]


def _cancel(run: Path, done: Iterable[SubmittedJob]) -> None:
    """Also a job whose id sbatch had no time to report: its comment names the run."""
    ids = {job.id for job in done if job.id} | {state.id.partition("_")[0] for state in live_jobs_of(run)}
    if ids:
        scheduler.cancel(sorted(ids))
        print(f"cancelled what was submitted already: {', '.join(sorted(ids))}", flush=True)


def _print(
    jobs: Sequence[ChainJob], submitted: Sequence[SubmittedJob], names: dict[str, str], chain: Chain
) -> None:
    table = Table(
        "job", "id", "after", "size", "time limit", "file", title=escape(one_line(str(chain.folder)))
    )
    cluster = cluster_of(chain.cfg)
    for job, record in zip(jobs, submitted, strict=True):
        nodes, gpus = job_size(chain.cfg, job)
        size = (
            f"{len(job.array)} x " * bool(job.array)
            + f"{nodes} node{'s' * (nodes > 1)}"
            + f", {gpus} GPUs" * bool(gpus)
        )
        after = ("any end of " if job.after_any else "") + (", ".join(job.after) or "-")
        limit = cluster.resources.of(job.resources)[1].time_limit
        table.add_row(", ".join((job.key, *job.also)), record.id or "-", after, size, limit, f"{names[job.key]}.sbatch")
    console = Console()
    console.print(table)
    if all(not record.id for record in submitted):
        console.print(f"nothing was submitted ({DRY_RUN})", markup=False)
    else:
        console.print("nemo-cot status, logs and cancel take the same overrides", markup=False)
