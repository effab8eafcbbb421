"""nemo-cot cancel: take a submitted chain out of the queue; what it has done stays, and resumes."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_cot.errors import one_line
from nemo_cot.experiment.existing import find_directory
from nemo_cot.launchers.finished import as_overrides, split_arguments
from nemo_cot.launchers.slurm import scheduler
from nemo_cot.launchers.slurm.live import check_cluster, live_jobs_of
from nemo_cot.launchers.slurm.record import read_submission


def cancel_chain(arguments: Sequence[str]) -> int:
    """``[RUN] [overrides]``: cancel every queued or running job of the run. Returns 0. Raises UserError on another
    cluster than the one that it was submitted to.
    """
    verb = "nemo-cot cancel"
    run = find_directory(as_overrides(split_arguments(arguments, verb, options=()), verb))
    check_cluster(run.path, read_submission(run.path))
    ids = sorted({state.id.partition("_")[0] for state in live_jobs_of(run.path)}, key=int)
    if ids:
        scheduler.cancel(ids)
        print(one_line(f"cancelled jobs {', '.join(ids)} of {run.path}"))
        print("nemo-cot submit with the same overrides goes on from here", flush=True)
    else:
        print(one_line(f"no job of {run.path} is queued or running"), flush=True)
    return 0
