"""The submitted jobs of a run, for verbs that know no scheduler. There is one scheduler, Slurm."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType
from rich.markup import escape

from nemo_cot.errors import UserError
from nemo_cot.launchers.slurm.record import FOLDER, SUBMISSION
from nemo_cot.stages import RunDirectory

_SLURM = f"{FOLDER}/{SUBMISSION}"
"""The file of a submission in a run directory; a dry run writes files beside it."""


def refuse_live_jobs(run: Path) -> None:
    """Raise UserError if jobs of ``run`` are in a queue. Without Slurm on this machine none are visible, and only
    the lock of the run directory keeps two runs apart.
    """
    if (run / _SLURM).exists():
        from nemo_cot.launchers.slurm.live import refuse_live_jobs as refuse

        refuse(run, may_lack_slurm=True)


def submitted_tables(run: RunDirectory) -> tuple[list[RenderableType], bool]:
    """The table of submitted jobs, and whether one is queued or running. If Slurm does not answer, the states
    come from the files of the jobs.
    """
    if not (run.path / _SLURM).exists():
        return [], False
    from nemo_cot.launchers.slurm.live import any_live, chain_states
    from nemo_cot.launchers.slurm.record import read_submission
    from nemo_cot.launchers.slurm.status import chain_table

    submission = read_submission(run.path)
    if submission is None:
        return [], False
    states, note = {}, []
    try:
        states = chain_states(run.path, submission)
    except UserError as error:
        note = [escape(f"states are those that the jobs reported: {error}")]
    return [chain_table(run, submission, states), *note], any_live(states)
