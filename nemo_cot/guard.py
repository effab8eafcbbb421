"""The outermost frame of every command: errors a user can act on are one line and an exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from nemo_cot.errors import UNFINISHED, Fault, UserError
from nemo_cot.stopping import Stopped

INTERRUPTED = 130
LIFELINE = "NEMO_COT_LIFELINE_FD"
"""Environment variable: a pipe that a launcher holds open; it closes when the launcher dies."""

_AGAIN = "then run the same command again: it resumes"
_FAULTS = {
    errno.ENOSPC: ("the disk is full", f"free space, {_AGAIN}"),
    errno.EDQUOT: ("the disk quota is used up", f"free space, {_AGAIN}"),
    errno.EIO: ("the disk or the file server failed", f"look at `dmesg`, {_AGAIN}"),
    errno.ESTALE: ("the file server has lost this file", f"wait until it is mounted again, {_AGAIN}"),
    errno.ETIMEDOUT: ("no answer in time", f"check the file server or the network, {_AGAIN}"),
    errno.ENOMEM: ("there is no memory left", f"ask for less or use a machine with more, {_AGAIN}"),
    errno.EMFILE: ("too many files are open", f"raise the limit (ulimit -n), {_AGAIN}"),
    errno.ENFILE: ("the machine has too many open files", f"wait for others to end, {_AGAIN}"),
    errno.EAGAIN: ("the machine starts no more processes", f"raise the limit (ulimit -u), {_AGAIN}"),
    errno.EFBIG: ("the file is larger than is allowed here", f"raise the limit (ulimit -f), {_AGAIN}"),
}
"""Failures that are no mistake of the user."""
_PLACE = "choose another place with runs_dir=DIR"
_MISTAKES = {
    errno.ENOENT: ("no such file or directory", "correct the path"),
    errno.EISDIR: ("this is a directory, and a file is needed", "correct the path, or remove the directory"),
    errno.ENOTDIR: ("a part of the path is a file, not a directory", _PLACE),
    errno.EEXIST: ("there is a file where a directory is needed", f"{_PLACE} or name=NAME"),
    errno.ELOOP: ("this path is a link that leads to itself", f"correct the link, or {_PLACE}"),
    errno.ENAMETOOLONG: ("this file name is too long", "choose a shorter one with name= or runs_dir=DIR"),
    errno.EROFS: ("the file system is read-only", "choose a writable place with runs_dir=DIR"),
    errno.EACCES: ("permission denied", f"correct its permissions (see `ls -ld`), or {_PLACE}"),
    errno.EPERM: ("this is not permitted", f"let its owner do it (see `ls -ld` and `lsattr`), or {_PLACE}"),
    errno.ENOLCK: ("the file system gives no locks", "choose a place on one with flock with runs_dir=DIR"),
    errno.EOPNOTSUPP: ("the file system does not support this", _PLACE),
}
_NUMBERED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG, errno.ENOMEM, errno.EIO)
_IN_WORDS = {
    **{os.strerror(n): n for n in _NUMBERED},
    "can't start new thread": errno.EAGAIN,
    "failed to map segment": errno.ENOMEM,
}
"""Searched in the message of an error without a number: libraries in Rust and C++, and what loads them, report
nothing else."""

_OF_A_GPU = re.compile(
    r"CUDA error: (uncorrectable|an illegal memory|unspecified launch|unknown error|hardware|initialization error|system not yet"
    r"|(all )?CUDA-capable device|CUBLAS_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR))|Watchdog caught collective operation timeout"
    r"|NCCL.*unhandled (system|cuda) error|nccl(System|UnhandledCuda|Internal)Error"
)
"""What PyTorch says where a GPU, its driver or the network between GPUs has failed. Not ncclRemoteError, by which the
other ranks report the end of one, for whatever reason."""


def gpu_fault(said: str) -> str:
    """The first line of ``said`` by which a GPU or NCCL failed; empty without one, and where memory ran out before."""
    found = None if "out of memory" in said else next((s for s in said.splitlines() if _OF_A_GPU.search(s)), None)
    return (found or "").strip()[:300]


def guarded(main: Callable[[], int | None]) -> int:
    """Run ``main`` and return the exit code: its own; 2 for a mistake of the user (UserError); 3 for a fault of
    a machine or a server (Fault, a full disk, no memory), after which the same command may succeed; 75 for work
    that was stopped and can resume; 130 for Ctrl-C. Other exceptions are bugs and propagate: traceback, code 1.
    """
    follow_launcher()
    try:
        return main() or 0
    except UserError as error:
        return _print(error)
    except Stopped as stopped:
        print(f"stopped by {stopped}; the same command resumes", file=sys.stderr, flush=True)
        return UNFINISHED
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        known = system_error(error)
        if known is None:
            raise
        return _print(known)


def system_error(error: BaseException) -> UserError | None:
    """A system error as a UserError; None for other errors, which are bugs."""
    number = getattr(error, "errno", None)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        number = errno.ENOMEM
    if number is None:
        number = next((n for words, n in _IN_WORDS.items() if words in str(error)), None)
    where = getattr(error, "filename", None)
    where = os.fsdecode(where) if isinstance(where, str | bytes | Path) else "nemo-cot"
    if number in _MISTAKES:
        what, fix = _MISTAKES[number]
        return UserError(what, where=where, fix=fix)
    if number in _FAULTS:
        what, fix = _FAULTS[number]
        return Fault(what, where=where, fix=fix)
    if said := gpu_fault(str(error)):
        return Fault(said, where=where, fix=f"look at `nvidia-smi -q` and `dmesg` on that node, {_AGAIN}")
    if isinstance(error, OSError) and number is not None:
        return Fault(os.strerror(number), where=where, fix=f"look at `dmesg`, {_AGAIN}")
    return None


def follow_launcher() -> None:
    """Die with the launcher that started this process, even if SIGKILL kills it."""
    descriptor = os.environ.pop(LIFELINE, None)
    if descriptor is not None:
        threading.Thread(target=_die_at_end_of_file, args=(int(descriptor),), daemon=True).start()


def _die_at_end_of_file(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os._exit(INTERRUPTED)


def _print(error: UserError) -> int:
    word = "stopped" if error.exit_code == UNFINISHED else "error"
    print(f"{word}: {error}", file=sys.stderr, flush=True)
    return error.exit_code
