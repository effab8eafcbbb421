"""Exit codes, and errors of the system in one line: 2 a mistake of the user's, 3 a fault, 1 a bug."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nemo_cot.errors import Fault, Unfinished, UserError
from nemo_cot.guard import guarded, system_error
from tests.support import one_error, python


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


TABLE = [
    (OSError(errno.ENOSPC, "", "/a"), 3, "/a: the disk is full", "free space"),
    (OSError(errno.EDQUOT, "", b"/a\xff"), 3, "/a", "free space"),
    (OSError(errno.EIO, "", Path("/a")), 3, "/a: the disk or the file server failed", "dmesg"),
    (OSError(errno.ESTALE, "", "/a"), 3, "file server", "mounted again"),
    (OSError(errno.ENOMEM, ""), 3, "nemo-cot: there is no memory left", "a machine with more"),
    (OSError(errno.EMFILE, "", 7), 3, "nemo-cot: too many files", "ulimit -n"),
    (BlockingIOError(errno.EAGAIN, ""), 3, "no more processes", "ulimit -u"),
    (OSError(errno.EBUSY, "", "/a"), 3, "/a: Device or resource busy", "run the same command again"),
    (MemoryError(), 3, "no memory left", "run the same command again"),
    (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 3, "no memory left", "ask for less"),
    (RuntimeError("DefaultCPUAllocator: ... (Cannot allocate memory)"), 3, "no memory left", "ask for less"),
    (ImportError("libstdc++.so.6: failed to map segment from shared object"), 3, "no memory left", "ask for less"),
    (RuntimeError("CUDA error: uncorrectable ECC error encountered\nmore"), 3, "uncorrectable ECC error encountered.", "nvidia-smi"),
    (RuntimeError("NCCL error in: a.cpp:1, unhandled system error (run with ...)\nmore"), 3, "unhandled system", "dmesg"),
    (RuntimeError("can't start new thread"), 3, "no more processes", "ulimit -u"),
    (Exception("Error: No space left on device (os error 28)"), 3, "the disk is full", "free space"),
    (PermissionError(errno.EACCES, "", "/a"), 2, "/a: permission denied", "ls -ld"),
    (PermissionError(errno.EPERM, "", "/a"), 2, "/a: this is not permitted", "lsattr"),
    (OSError(errno.EROFS, "", "/a"), 2, "/a: the file system is read-only", "runs_dir=DIR"),
    (FileNotFoundError(errno.ENOENT, "", "/a"), 2, "/a: no such file", "correct the path"),
    (IsADirectoryError(errno.EISDIR, "", "/a"), 2, "/a: this is a directory", "correct the path"),
    (UserError("x", where="w", fix="f"), 2, "w: x", "f"),
    (Fault("x", where="w", fix="f"), 3, "w: x", "f"),
]  # fmt: skip


@pytest.mark.parametrize(
    "error, code, what, fix", TABLE, ids=[f"{type(e).__name__} {e}"[:40] for e, *_ in TABLE]
)
def test_each_cause_has_its_exit_code_and_advice(error, code, what, fix, capsys):
    def fails() -> None:
        raise error

    assert guarded(fails) == code
    said = capsys.readouterr().err
    line, advice = said.removeprefix("error: ").split(" Fix: ")
    assert said.count("\n") == 1 and what in line and fix in advice
    assert code == 2 or isinstance(error, UserError) or "run the same command again" in advice


def test_work_that_can_go_on_is_no_error(capsys):
    def stops() -> None:
        raise Unfinished("saved", where="w", fix="f")

    assert guarded(stops) == 75 and capsys.readouterr().err.startswith("stopped: ")


MISTAKES = (
    "CUDA error: device-side assert triggered",
    "CUDA error: invalid device ordinal",
    "CUDA error: out of memory",
    "NCCL error in: a.cpp:1, invalid usage (run with NCCL_WARN=WARN for details)",
    "ncclUnhandledCudaError: Call to CUDA function failed.\nCuda failure 2 'out of memory'",
    "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
)


@pytest.mark.parametrize(
    "bug", [KeyError("x"), ValueError("x"), RuntimeError("x"), AssertionError(), *map(RuntimeError, MISTAKES)]
)
def test_a_bug_keeps_its_traceback(bug):
    def fails() -> None:
        raise bug

    assert system_error(bug) is None
    with pytest.raises(type(bug)):
        guarded(fails)


LIMITED = """
import resource, sys
from nemo_cot.guard import guarded
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
sys.exit(guarded(lambda: len(bytearray(1 << 34))))
"""


def test_a_real_limit_of_memory():
    one_error(python("-c", LIMITED), "there is no memory left", code=3)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_another_user_may_not_read_is_one_line(tmp_path):
    (tmp_path / "own").mkdir(mode=0o700)
    program = (
        "import os, sys; from pathlib import Path; from nemo_cot.guard import guarded; os.setgid(65534);"
        f"os.setuid(65534); sys.exit(guarded(lambda: Path({str(tmp_path / 'own' / 'file')!r}).read_text()))"
    )
    one_error(python("-c", program), str(tmp_path / "own"), "permission denied")
