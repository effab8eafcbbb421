"""nemo-cot logs: print what the jobs of a chain wrote, and follow it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from nemo_cot.errors import UserError
from nemo_cot.experiment.existing import find_directory
from nemo_cot.launchers.slurm.live import live_jobs_of
from nemo_cot.launchers.slurm.record import Submission, SubmittedJob, log_file, read_submission
from nemo_cot.stages.rundir import changed

FOLLOW = ("--follow", "-f")
_LINES = 200
_EVERY_SECONDS = 0.5
_LOOK_EVERY_SECONDS = 5.0


def print_logs(arguments: Sequence[str]) -> int:
    """``[JOB] [--follow] [overrides]``: the last lines of a job's log, of the latest one without JOB.

    --follow goes on until no job of the run is queued or running.
    """
    names = [a for a in arguments if "=" not in a and a not in FOLLOW]
    run = find_directory([a for a in arguments if "=" in a]).path
    submission = read_submission(run)
    if submission is None or len(names) > 1:
        raise UserError(
            "nothing was submitted" if submission is None else f"{len(names)} jobs named, not one",
            where=str(run),
            fix="nemo-cot logs [JOB] [--follow] with the overrides of nemo-cot submit",
        )
    follow = any(a in FOLLOW for a in arguments)
    path = _chosen(run, submission, names, wait=follow)
    print(f"==> {path}", flush=True)
    with open(path, "rb") as handle:
        *whole, rest = _tail(handle, _LINES)
        for line in whole:
            _say(line)
        for line in _followed(run, handle, rest) if follow else filter(None, [rest]):
            _say(line)
    return 0


def _chosen(run: Path, submission: Submission, names: Sequence[str], *, wait: bool) -> Path:
    """The log of the job that is named, or of the job that wrote last."""
    while True:
        logs = [path for job in _named(submission, names) for path in _logs(run, job) if path.exists()]
        if logs:
            return max(logs, key=changed)
        if not wait or not live_jobs_of(run):
            raise UserError(
                "has not written a log yet",
                where=names[0] if names else str(run),
                fix="look at nemo-cot status",
            )
        time.sleep(_LOOK_EVERY_SECONDS)


def _named(submission: Submission, names: Sequence[str]) -> list[SubmittedJob]:
    if not names:
        return submission.jobs
    found = [job for job in submission.jobs if names[0] in (job.key, *job.stages, job.recipe)]
    if not found:
        keys = ", ".join(job.key for job in submission.jobs)
        raise UserError(f"there is no job {names[0]!r}", where="nemo-cot logs", fix=f"choose one of {keys}")
    return found


def _logs(run: Path, job: SubmittedJob) -> list[Path]:
    return [log_file(run, job, task) for task in job.array] if job.array else [log_file(run, job)]


def _tail(handle: BinaryIO, lines: int) -> list[bytes]:
    """The last lines, out of the last megabyte; at the end what is written of the next one so far."""
    handle.seek(max(0, os.fstat(handle.fileno()).st_size - (1 << 20)))
    return handle.read().split(b"\n")[-lines - 1 :]


def _followed(run: Path, handle: BinaryIO, rest: bytes) -> Iterator[bytes]:
    """Whole lines from where ``handle`` stands; ``rest`` is the beginning of the first one."""
    looked = time.monotonic()
    while True:
        if new := handle.read():
            *whole, rest = (rest + new).split(b"\n")
            yield from whole
            continue
        if time.monotonic() - looked > _LOOK_EVERY_SECONDS:
            looked = time.monotonic()
            if not live_jobs_of(run):
                yield from [line for line in (rest + handle.read()).split(b"\n") if line]
                return
        time.sleep(_EVERY_SECONDS)


def _say(line: bytes) -> None:
    """Logs hold what models wrote: no control character of theirs reaches the terminal."""
    text = line.decode(errors="replace")
    sys.stdout.write("".join(c for c in text if c.isprintable() or c == "\t") + "\n")
    sys.stdout.flush()
