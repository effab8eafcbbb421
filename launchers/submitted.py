"""What a scheduler still has of a run: asked by the verbs that know no scheduler. There is one, Slurm."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType
from rich.markup import escape

from nemo_cot.errors import UserError
from nemo_cot.stages import RunDirectory

_SLURM = "slurm/submission.json"
"""What a submission leaves in a run directory; a dry run leaves files beside it."""


def refuse_live_jobs(run: Path) -> None:
    """Raise UserError when jobs of ``run`` are in a queue. Without Slurm here none can be seen, and the lock of
    the run directory is what keeps two runs apart.
    """
    if (run / _SLURM).exists():
        from nemo_cot.launchers.slurm.live import refuse_live_jobs as refuse

        refuse(run, may_lack_slurm=True)


def submitted_tables(run: RunDirectory) -> tuple[list[RenderableType], bool]:
    """The table of submitted jobs, and whether one is queued or running. Where Slurm does not answer, its own
    files have to do.
    """
    if not (run.path / _SLURM).exists():
        return [], False
    from nemo_cot.launchers.slurm.record import read_submission
    from nemo_cot.launchers.slurm.status import any_live, chain_states, chain_table

    submission = read_submission(run.path)
    if submission is None:
        return [], False
    states, note = {}, []
    try:
        states = chain_states(submission)
    except UserError as error:
        note = [escape(f"Slurm does not answer, so states are those that the jobs reported: {error}")]
    return [chain_table(run, submission, states), *note], any_live(states)
