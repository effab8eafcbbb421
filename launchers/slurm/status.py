"""The table of a submitted chain: what Slurm, the jobs themselves and the stages' own progress say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from nemo_cot.errors import UserError, one_line
from nemo_cot.launchers.slurm.live import any_live, chain_states
from nemo_cot.launchers.slurm.record import (
    Submission,
    SubmittedJob,
    log_file,
    read_attempt,
    read_submission,
    task_key,
)
from nemo_cot.launchers.slurm.scheduler import JobState
from nemo_cot.progress import shown_progress
from nemo_cot.sampling.chunks import chunk_stage
from nemo_cot.stages import RunDirectory

COLUMNS = ("job", "id", "state", "reason", "elapsed", "node", "exit", "progress", "log")


def submitted_tables(run: RunDirectory) -> tuple[list[RenderableType], bool]:
    """The table of submitted jobs, and whether one is queued or running; nothing of a run that was not submitted. If
    Slurm does not answer, the states come from the files of the jobs.
    """
    submission = read_submission(run.path)
    if submission is None:
        return [], False
    states, note = {}, []
    try:
        states = chain_states(run.path, submission)
    except UserError as error:
        note = [escape(f"states are those that the jobs reported: {error}")]
    return [chain_table(run, submission, states), *note], any_live(states)


def chain_table(run: RunDirectory, submission: Submission, states: Mapping[str, Sequence[JobState]]) -> Table:
    """A row per job, and per task of an array."""
    table = Table(*COLUMNS, title=escape(one_line(f"{run.path}, submitted {submission.submitted_at}")))
    for job in submission.jobs:
        for row in _rows(run, job, list(states.get(job.id, []))):
            table.add_row(*(escape(one_line(cell)) for cell in row))
    return table


def _rows(run: RunDirectory, job: SubmittedJob, states: list[JobState]) -> list[tuple[str, ...]]:
    if not job.array:
        return [_row(run, job, job.key, job.id, states, None)]
    ids = [f"{job.id}_{task}" if job.id else "" for task in job.array]
    return [_row(run, job, task_key(job.key, task), own, states, task) for own, task in zip(ids, job.array)]


def _row(
    run: RunDirectory, job: SubmittedJob, key: str, own: str, states: list[JobState], task: int | None
) -> tuple[str, ...]:
    state = next((s for s in states if s.id == own), None)
    said = read_attempt(run.path, key, own)
    code = said.exit_code if said is not None else None
    forgotten = "unknown" if code is None else "failed" if code else "completed"
    shown = state or JobState(own, forgotten if job.id else "not submitted")
    node = shown.node or (said.node if said else "")
    exit_code = "" if shown.live else str(code) if code is not None else _slurms(shown)
    log = log_file(run.path, job, task)
    return (
        ", ".join((key, *job.also)), own, shown.state.lower(), "" if shown.reason == "None" else shown.reason, shown.elapsed, node,
        exit_code, _progress(run, job, task) if shown.state == "RUNNING" else "", _log_name(run, log),
    )  # fmt: skip


def _slurms(state: JobState) -> str:
    """Slurm's exit code; it also gives 0 to a job that never started."""
    code = state.exit_code.partition(":")[0]
    return "" if code == "0" and state.state != "COMPLETED" else code


def _log_name(run: RunDirectory, log: Path) -> str:
    if not log.exists():
        return "-"
    return str(log.relative_to(run.path)) if log.is_relative_to(run.path) else str(log)


def _progress(run: RunDirectory, job: SubmittedJob, task: int | None) -> str:
    """The latest progress of the stage that the job works on: the first that is not done."""
    stages = [stage if task is None else chunk_stage(stage, task) for stage in job.stages]
    return shown_progress(next(filter(None, map(run.partials, stages)), [])[-1:])
