"""Run one command, and end it with everything it started when this process's parent is gone.

``python keeper.py LIFELINE LOG SCRATCH PATIENCE SHOWN -- COMMAND...`` in a session of its own. LIFELINE is
the read end of a pipe whose write end only the parent holds: it closes when the parent ends, even by
SIGKILL. LOG gets the command's output, a time before every line; empty: the output goes where this
process's own does; with SHOWN to both. SCRATCH, a folder, is removed at the end; empty: none. PATIENCE: the seconds that the
command alone has after SIGTERM, to end what it started in its own order. Other descriptors that this
process was given stay open until the command and all its descendants are gone: locks, for one.
Exits with the command's own code.

Started by path with the standard library alone, so that it is there in a few hundredths of a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import IO

GRACE_SECONDS = 10.0
"""Between SIGTERM to all and SIGKILL."""
_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """See the module. ``arguments`` is argv without the program."""
    lifeline, log, scratch, patience, shown, command = int(arguments[0]), *arguments[1:5], arguments[6:]
    _adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGUSR1, lambda *_: None)  # the parent's to act on; SIG_IGN would be inherited
    try:
        return _run(command, lifeline, log, float(patience), shown=bool(shown))
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def _run(command: list[str], lifeline: int, log: str, patience: float, *, shown: bool) -> int:
    with open(log, "ab", buffering=0) if log else contextlib.nullcontext() as handle:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if log else {}
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **streams)
        except OSError as error:
            (handle or sys.stderr.buffer).write(_stamped(f"{command[0]}: {error.strerror}\n".encode()))
            return 127
        copied = threading.Thread(target=_copy, args=(process.stdout, handle, shown), daemon=True)
        try:
            if handle:
                copied.start()
            _watch(process, lifeline)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the end short
            _end_all(process, patience)
            if handle:
                copied.join(1.0)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _watch(process: subprocess.Popen, lifeline: int) -> None:
    """Return when the command has ended or the parent has."""
    while process.poll() is None:
        if select.select([lifeline], [], [], 0.2)[0] and not os.read(lifeline, 1):
            return


def _copy(output: IO[bytes], log: IO[bytes], shown: bool) -> None:
    """Output into the log, line by line, until all that have it are gone; if ``shown``, also as it comes."""
    pending = b""
    while data := os.read(output.fileno(), 1 << 16):
        if shown:
            with contextlib.suppress(OSError):  # nobody reads it any more
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
        *lines, pending = re.split(rb"[\r\n]+", pending + data)
        if len(pending) > 1 << 20:
            lines, pending = [*lines, pending], b""
        with contextlib.suppress(OSError):  # the disk is full: the command must not wait for its log
            log.write(b"".join(_stamped(line) for line in lines if line))
    if pending:
        log.write(_stamped(pending))


def _stamped(line: bytes) -> bytes:
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ ").encode()
    return now + line + b"\n"


def _adopt_orphans() -> None:
    """Processes whose parents end become this one's children (Linux), so that none is lost sight of."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_all(process: subprocess.Popen, patience: float) -> None:
    """SIGTERM to the command, which may pass it on, then to all that is left of its descendants, then SIGKILL."""
    if patience and process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_SECONDS
        _signal_all(number)
        while _any_left(process) and time.monotonic() < deadline:
            time.sleep(0.05)
            if number == signal.SIGKILL:
                _signal_all(number)
        if not _any_left(process):
            return


def _any_left(process: subprocess.Popen) -> bool:
    process.poll()
    with contextlib.suppress(ChildProcessError):
        while process.returncode is not None and os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return process.returncode is None or bool(_children())


def _signal_all(number: int) -> None:
    for pid in _children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _children() -> list[int]:
    """Descendants of this process, zombies left out: out of /proc, or by ps where there is none."""
    try:
        rows = [_stat(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        text = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True).stdout
        rows = [(int(p), int(q), s[0]) for p, q, s in map(str.split, text.splitlines())]
    parents = {pid: parent for pid, parent, state in filter(None, rows) if state != "Z"}
    found, frontier = [], {os.getpid()}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found += frontier
    return found


def _stat(pid: int) -> tuple[int, int, str] | None:
    """Process id, parent, state; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as handle:
            state, parent = handle.read().rpartition(b")")[2].split()[:2]
        return pid, int(parent), state.decode()
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
