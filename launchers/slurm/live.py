"""Jobs of a run that are queued or running."""

from __future__ import annotations

import shutil
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.launchers.slurm import scheduler
from nemo_cot.launchers.slurm.record import comment_of, read_submission
from nemo_cot.launchers.slurm.scheduler import JobState


def live_jobs_of(run: Path) -> list[JobState]:
    """The user's jobs that carry the run's mark, or whose id the last submission names."""
    submission = read_submission(run)
    ids = {job.id for job in submission.jobs} if submission else set()
    mark = comment_of(run)
    return [s for s in scheduler.live_jobs() if s.comment == mark or s.id.partition("_")[0] in ids]


def refuse_live_jobs(run: Path, *, may_lack_slurm: bool = False) -> None:
    """Raise UserError when the run has jobs in the queue, or when Slurm does not answer.

    ``may_lack_slurm``: without Slurm here none can be seen, and the lock of the run directory is what
    keeps two runs apart.
    """
    if may_lack_slurm and shutil.which("squeue") is None:
        return
    if live := live_jobs_of(run):
        ids = ", ".join(f"{state.id} ({state.state.lower()})" for state in live[:5])
        more = f" and {len(live) - 5} more" if len(live) > 5 else ""
        raise UserError(
            f"a submitted chain is queued or running: jobs {ids}{more}",
            where=str(run),
            fix="wait for it (nemo-cot status), stop it (nemo-cot cancel), or choose another run with name=OTHER",
        )
