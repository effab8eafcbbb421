"""What Slurm knows of a run's jobs: those whose cluster, mark and id are the run's. Ids alone are given anew by
every cluster, to anybody's jobs.

Standard library only: the runner inside of the report's job uses it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.launchers.slurm import scheduler
from nemo_cot.launchers.slurm.record import SUBMISSION, Submission, comment_of, folder_of, read_submission
from nemo_cot.launchers.slurm.scheduler import JobState


def live_jobs_of(run: Path) -> list[JobState]:
    """The run's jobs that are queued or running on this cluster, in the record of the last submission; those with
    the run's mark where there is none, or where submit was killed before it knew every id.
    """
    submission = read_submission(run)
    if submission is not None and submission.cluster != scheduler.cluster_name():
        return []
    marked = [state for state in scheduler.live_jobs() if state.comment == comment_of(run)]
    if submission is None or not submission.whole:
        return marked
    ids = {job.id for job in submission.jobs}
    return [state for state in marked if state.id.partition("_")[0] in ids]


def chain_states(run: Path, submission: Submission) -> dict[str, list[JobState]]:
    """What Slurm knows of each job, by id. Raises UserError when it does not answer, or on another cluster."""
    check_cluster(run, submission)
    keys = {job.id: job.key for job in submission.jobs if job.id}
    mark = comment_of(run)

    def ours(job: str, state: JobState) -> bool:
        named = not state.comment and state.name.endswith(f".{keys[job]}")
        return state.comment == mark or named

    found = scheduler.job_states(keys)
    return {job: [state for state in states if ours(job, state)] for job, states in found.items()}


def any_live(states: Mapping[str, Sequence[JobState]]) -> bool:
    """Whether a job is queued or running."""
    return any(state.live for found in states.values() for state in found)


def check_cluster(run: Path, submission: Submission | None, here: str | None = None) -> None:
    """Raise UserError when the last chain of ``run`` was submitted to another cluster than ``here`` (None: this one)."""
    if submission is not None and submission.cluster != (here := here or scheduler.cluster_name()):
        raise UserError(
            f"the chain was submitted to the cluster {submission.cluster}, and this is {here}",
            where=str(run),
            fix=f"use a login node of {submission.cluster}",
        )


def refuse_live_jobs(run: Path, *, may_lack_slurm: bool = False) -> None:
    """Raise UserError when the run has jobs in the queue, or when Slurm does not answer.

    ``may_lack_slurm``: of a run that may never have been submitted. Without Slurm here no jobs can be seen, and the lock
    of the run directory is what keeps two runs apart.
    """
    if may_lack_slurm and not ((folder_of(run) / SUBMISSION).exists() and shutil.which("squeue")):
        return
    if live := live_jobs_of(run):
        ids = ", ".join(f"{state.id} ({state.state.lower()})" for state in live[:5])
        more = f" and {len(live) - 5} more" if len(live) > 5 else ""
        raise UserError(
            f"a submitted chain is queued or running: jobs {ids}{more}",
            where=str(run),
            fix="wait for it (nemo-cot status), stop it (nemo-cot cancel), or choose another run with name=OTHER",
        )
