"""A study in Slurm's queue: the chains of its runs in one go, each shared stage as one job that others wait for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nemo_cot.config.overrides import hydra_quoted
from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.compose import Composer, to_dataclasses
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.experiment.sharing import PlannedRun, StudyPlan, plan_study, refuse_study_errors
from nemo_cot.experiment.study import Chosen
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.io.paths import real_path, user_path
from nemo_cot.launchers.slurm import scheduler
from nemo_cot.launchers.slurm.live import check_cluster, live_jobs_of
from nemo_cot.launchers.slurm.record import DRY_RUN_FOLDER, FOLDER, comment_of, read_submission, write_json
from nemo_cot.launchers.slurm.submit import (
    Queued,
    check_place,
    check_time,
    copy_of_code,
    queue_chain,
    rehearse,
    release,
)
from nemo_cot.stages.lock import run_lock
from nemo_cot.stages.manifest import MANIFEST

_OF_ALL = ".jobs"
"""In the study's directory: what the jobs of all runs share."""
_RECORD = "submitted.json"
"""In the study's directory: the runs of a submission, and whether all of it reached the queue."""


class _Record(msgspec.Struct):
    """``released``: whether the jobs may start; if not, submit was killed, and what it left is taken out."""

    runs: list[str]
    released: bool


def submit_study(chosen: Chosen, *, dry_run: bool) -> int:
    """Submit every run that is meant; runs whose jobs are in the queue already are left alone. Returns 0.

    A stage that several runs have in common has one job; the others' jobs wait for it, and their runs reuse what
    it made. With ``dry_run`` only job files are written. Raises UserError for what preflight or sbatch refuses,
    with nothing of this submission left in the queue.
    """
    plan = plan_study(chosen, elsewhere=True)
    refuse_study_errors(plan)
    for planned in plan.chosen:
        check_place(planned.cfg, run_directory(planned.cfg), planned.run.overrides)
        check_time(planned.cfg)
    folder = user_path(chosen.study.runs_dir)
    for planned in plan.chosen:
        run_directory(planned.cfg).create()
    code = copy_of_code(real_path(folder) / _OF_ALL, real_path(folder.parent))
    if dry_run:
        queued = _queue_all(plan, [], code, dry_run=True)
        _show(queued)
        _say(queued, f"nothing was submitted (--dry-run); job files: {folder}/RUN/{FOLDER}/{DRY_RUN_FOLDER}")
        return 0
    with run_lock(folder):
        _take_back(folder, chosen)
        live = [p for p in plan.chosen if live_jobs_of(run_directory(p.cfg).path)]
        write_json(folder / _RECORD, {"runs": [p.name for p in plan.chosen], "released": False})
        try:
            queued = _queue_all(plan, live, code, dry_run=False)
            release(queued)
        except BaseException:
            _cancel([folder / p.name for p in plan.chosen if p not in live])
            raise
        write_json(folder / _RECORD, {"runs": [p.name for p in plan.chosen], "released": True})
    _say(queued, "nemo-cot status, cancel and report take the same study", live)
    return 0


def _queue_all(plan: StudyPlan, live: Sequence[PlannedRun], code: Path, *, dry_run: bool) -> list[Queued]:
    ids: dict[str, str] = {}
    in_queue: dict[str, PlannedRun] = {}
    for planned in live:
        run = run_directory(planned.cfg)
        submission, waiting = read_submission(run.path), {state.id for state in live_jobs_of(run.path)}
        jobs = [job for job in submission.jobs if not job.array] if submission else []
        for job, stage in ((j, s) for j in jobs for s in j.stages):
            key = planned.keys.get(stage)
            if key is None:
                continue
            if job.id in waiting:
                ids[key] = job.id
            elif not (run.stage(stage) / MANIFEST).exists():
                continue  # it failed: a job behind it would never start
            in_queue.setdefault(key, planned)
    makers, composer = plan.makers(in_queue, live), Composer()
    queued = []
    for planned in plan.chosen:
        if planned in live:
            continue
        overrides = [*planned.run.overrides, *_reuse(planned, makers)]
        tree = composer.tree(overrides)
        cfg = to_dataclasses(tree)
        run = run_directory(cfg)
        elsewhere = {
            stage: ids[key] for stage, key in planned.keys.items() if key in ids and makers[key] is not planned
        }
        if dry_run:
            own = rehearse(cfg, run, overrides, elsewhere, code)
        else:
            own = queue_chain(cfg, run, overrides, tree, elsewhere, code)
        if own is None:
            continue
        queued.append(own)
        of_stage = ((stage, job) for job in own.submitted if not job.array for stage in job.stages)
        last = {stage: job.id or f"{planned.name}:{job.key}" for stage, job in of_stage}
        ids |= {planned.keys[s]: job for s, job in last.items() if s in planned.keys and planned.keys[s] not in ids}
    return queued


def _reuse(planned: PlannedRun, makers: dict[str, PlannedRun]) -> list[str]:
    """The override that lets ``planned`` reuse what other runs make; none where it makes all itself."""
    others = dict.fromkeys(makers[key].name for key in planned.keys.values() if makers[key] is not planned)
    if not others:
        return []
    entries = [*planned.cfg.reuse, *(name for name in others if name not in planned.cfg.reuse)]
    return [f"reuse=[{','.join(map(hydra_quoted, entries))}]"]


def _take_back(folder: Path, chosen: Chosen) -> None:
    """Cancel what a submission left that was killed before it let its jobs start."""
    try:
        record = msgspec.json.decode((folder / _RECORD).read_bytes(), type=_Record)
    except (OSError, *DAMAGED):
        return
    known = {run.name for run in chosen.study.runs}
    if not record.released and (ids := _cancel([folder / name for name in record.runs if name in known])):
        print(one_line(f"a submission was cut short; its {len(ids)} jobs are taken back"), flush=True)


def _cancel(runs: Sequence[Path]) -> list[str]:
    """Take the jobs of ``runs`` out of the queue; their ids."""
    marks = {comment_of(real_path(run)) for run in runs}
    ids = sorted({s.id.partition("_")[0] for s in scheduler.live_jobs() if s.comment in marks}, key=int)
    scheduler.cancel(ids)
    return ids


def _show(queued: Sequence[Queued]) -> None:
    """The jobs of each run; a star marks those that wait for a job of another run."""
    table = Table("run", "jobs (*: behind a job of another run)")
    for one in queued:
        table.add_row(escape(one.chain.cfg.name), ", ".join(job.key + "*" * bool(job.beside) for job in one.jobs))
    Console().print(table)


def _say(queued: Sequence[Queued], last: str, live: Sequence[PlannedRun] = ()) -> None:
    jobs = sum(len(one.jobs) for one in queued)
    waiting = sum(bool(job.beside) for one in queued for job in one.jobs)
    kept = f"; {len(live)} runs were in the queue already" if live else ""
    print(f"{jobs} jobs of {len(queued)} runs, {waiting} of them behind jobs of other runs{kept}", flush=True)
    print(one_line(last), flush=True)


def cancel_study(chosen: Chosen) -> int:
    """Cancel every queued or running job of the runs that are meant. Returns 0."""
    folder = user_path(chosen.study.runs_dir)
    runs = [folder / run.name for run in chosen.runs]
    here = scheduler.cluster_name()
    for run in runs:
        check_cluster(run, read_submission(run), here)
    ids = _cancel(runs)
    print(one_line(f"cancelled {len(ids)} jobs of {folder}" if ids else f"no job of {folder} is queued or running"))
    return 0


def queued_stages(chosen: Chosen) -> dict[str, dict[str, str]]:
    """Per run, its stages that are queued or running, in words; nothing where Slurm does not answer."""
    try:
        states = {state.id.partition("_")[0]: state for state in scheduler.live_jobs()}
    except UserError:
        return {}
    found: dict[str, dict[str, str]] = {}
    for run in chosen.runs:
        path = real_path(user_path(chosen.study.runs_dir) / run.name)
        submission = read_submission(path)
        for job in submission.jobs if submission else ():
            state = states.get(job.id)
            if state is not None and state.comment == comment_of(path):
                word = "running" if state.state.startswith(("RUN", "COMPLETING")) else "queued"
                several = job.stages if job.also and word == "running" else ()
                done = {stage for stage in several if (path / stage / MANIFEST).exists()}
                found.setdefault(run.name, {}).update({s: word for s in job.stages if s not in done})
    return found
