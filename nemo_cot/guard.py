"""The outermost frame of every command: errors a user can act on are one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable

from nemo_cot.errors import UNFINISHED, UserError
from nemo_cot.stopping import Stopped

INTERRUPTED = 130
LIFELINE = "NEMO_COT_LIFELINE_FD"
"""Environment variable: a pipe that a launcher holds open; it closes when the launcher dies."""

_DISK_ERRORS = {
    errno.ENOSPC: ("the disk is full", "free space, then run the same command again: it resumes"),
    errno.EDQUOT: ("the disk quota is used up", "free space, then run the same command again: it resumes"),
    errno.EROFS: ("the file system is read-only", "choose a writable place with runs_dir=DIR"),
    errno.EACCES: (
        "permission denied",
        "choose a place that you may write with runs_dir=DIR, or correct its permissions",
    ),
    errno.ENOTDIR: (
        "a part of the path is a file, not a directory",
        "choose another place with runs_dir=DIR",
    ),
    errno.EEXIST: (
        "there is a file where a directory is needed",
        "choose another place with runs_dir=DIR or name=NAME",
    ),
    errno.ELOOP: (
        "this path is a link that leads to itself",
        "correct the link, or choose another place with runs_dir=DIR",
    ),
    errno.ENAMETOOLONG: ("this file name is too long", "choose a shorter one with name= or runs_dir=DIR"),
    errno.ENOLCK: (
        "the file system gives no locks",
        "choose a place on a file system with flock with runs_dir=DIR",
    ),
    errno.EOPNOTSUPP: (
        "the file system does not support this",
        "choose a place on another file system with runs_dir=DIR",
    ),
    errno.EFBIG: (
        "the file is larger than is allowed here",
        "raise the limit (ulimit -f), then run the same command again",
    ),
}
_TOLD_IN_TEXT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)


def guarded(main: Callable[[], int | None]) -> int:
    """Run ``main`` and return the exit code: its own, 2 for a UserError or a full or read-only
    disk, 75 for work that was stopped and can go on, 130 for Ctrl-C. Other exceptions are bugs and pass through with their traceback.
    """
    follow_launcher()
    try:
        return main() or 0
    except UserError as error:
        return _say(error)
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
        known = disk_error(error)
        if known is None:
            raise
        return _say(known)


def disk_error(error: BaseException) -> UserError | None:
    """What a failing disk means to the user; None for any other error.

    Libraries written in Rust and C++ give the system's message only, so that is looked for too.
    """
    number = getattr(error, "errno", None)
    if number is None:
        number = next((n for n in _TOLD_IN_TEXT if os.strerror(n) in str(error)), None)
    if number not in _DISK_ERRORS:
        return None
    what, fix = _DISK_ERRORS[number]
    return UserError(what, where=str(getattr(error, "filename", None) or "while writing"), fix=fix)


def follow_launcher() -> None:
    """Die with the launcher that started this process, also when it is killed with SIGKILL."""
    descriptor = os.environ.pop(LIFELINE, None)
    if descriptor is not None:
        threading.Thread(target=_die_at_end_of_file, args=(int(descriptor),), daemon=True).start()


def _die_at_end_of_file(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os._exit(INTERRUPTED)


def _say(error: UserError) -> int:
    word = "stopped" if error.exit_code == UNFINISHED else "error"
    print(f"{word}: {error}", file=sys.stderr, flush=True)
    return error.exit_code
