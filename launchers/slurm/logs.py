"""nemo-cot logs: print what the jobs of a chain wrote, and follow it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from nemo_cot.errors import UserError
from nemo_cot.experiment.existing import find_directory
from nemo_cot.launchers.finished import Given, as_overrides, split_arguments
from nemo_cot.launchers.slurm.live import live_jobs_of
from nemo_cot.launchers.slurm.record import Submission, SubmittedJob, log_file, read_submission
from nemo_cot.stages.rundir import changed

_VERB = "nemo-cot logs"
FOLLOW = ("--follow", "-f")
_LINES = 200
_EVERY_SECONDS = 0.5
_LOOK_EVERY_SECONDS = 5.0


def print_logs(arguments: Sequence[str]) -> int:
    """``[RUN] [JOB] [--follow] [overrides]``: the last lines of a job's log, of the latest one without JOB.

    --follow goes on until no job of the run is queued or running.
    """
    run, names = _run_and_job(split_arguments([a for a in arguments if a not in FOLLOW], _VERB, options=()))
    submission = read_submission(run)
    if submission is None:
        fix = f"look at the terminal that it was run in, of a study with --jobs at {run}/study.log; or nemo-cot submit"
        raise UserError("nothing was submitted", where=str(run), fix=fix)
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


def _run_and_job(given: Given) -> tuple[Path, list[str]]:
    """The run's directory, and what else is named. A single name is a JOB where name= or experiment= says which run, and
    where there is no run, but a job, of that name. Raises UserError where there is neither.
    """
    names, overrides = given.names, given.overrides
    alone = len(names) < 2 and not any(text.startswith(("name=", "experiment=")) for text in overrides)
    runs, jobs = (names, []) if alone else (names[:-1], names[-1:])
    try:
        return find_directory(as_overrides(Given(runs, overrides), _VERB)).path, jobs
    except UserError:
        with suppress(UserError):
            run = find_directory(overrides).path
            if alone and names and (submission := read_submission(run)) and _named(submission, names):
                return run, names
        raise


def _chosen(run: Path, submission: Submission, names: Sequence[str], *, wait: bool) -> Path:
    """The log of the job that is named, or of the job that wrote last."""
    while True:
        jobs = _named(submission, names)
        logs = [log_file(run, job, task) for job in jobs for task in job.array or [None]]
        if written := [log for log in logs if log.exists()]:
            return max(written, key=changed)
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
        raise UserError(f"there is no job {names[0]!r}", where=_VERB, fix=f"choose one of {keys}")
    return found


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
