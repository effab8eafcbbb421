"""One lock a run directory: two runs never write the same artifacts.

The lock is an flock(2) on ``.lock``, which the kernel frees when its holder dies, however it dies.
The file names the holder. A launcher keeps the lock and hands the descriptor down to its recipes,
so that a recipe that outlives a killed launcher still holds it.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nemo_cot.errors import UserError

LOCK = ".lock"
INHERITED = "NEMO_COT_LOCK_FD"
"""Environment variable: the descriptor that a launcher hands down."""


class Holder(msgspec.Struct):
    """Who holds a lock."""

    pid: int
    host: str
    since: str


@contextlib.contextmanager
def run_lock(run_dir: Path, *, patience_seconds: float = 3.0) -> Iterator[int]:
    """Hold the lock of ``run_dir`` and yield its descriptor.

    ``patience_seconds`` covers the moment in which a killed holder's children end. Prints a line
    when it takes over from a holder that died. Raises UserError naming the holder otherwise.
    """
    path = run_dir / LOCK
    inherited = _inherited(path)
    if inherited is not None:
        yield inherited
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _acquire(descriptor, path, patience_seconds)
        if stale := _read(descriptor):
            print(
                f"stale lock: process {stale.pid} on {stale.host} (since {stale.since}) ended without "
                "releasing it; taken over",
                flush=True,
            )
        _write(descriptor, Holder(os.getpid(), socket.gethostname(), _now()))
        try:
            yield descriptor
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(run_dir: Path) -> Holder | None:
    """Who holds the lock of ``run_dir`` now; None when nobody does."""
    try:
        descriptor = os.open(run_dir / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor)
    finally:
        os.close(descriptor)
    return None


def _acquire(descriptor: int, path: Path, patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _refusal(descriptor, path) from None
        time.sleep(0.05)


def _refusal(descriptor: int, path: Path) -> UserError:
    held = _read(descriptor)
    who = f"process {held.pid} on {held.host} since {held.since}" if held else "another process"
    return UserError(
        f"this run directory is in use by {who}",
        where=str(path.parent),
        fix="wait for it or stop it, or choose another run with name=OTHER",
    )


def _inherited(path: Path) -> int | None:
    """The launcher's descriptor, if it is one of this very lock file."""
    try:
        descriptor = int(os.environ[INHERITED])
        same = os.path.samestat(os.fstat(descriptor), path.stat())
    except (KeyError, ValueError, OSError):
        return None
    return descriptor if same else None


def _read(descriptor: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
    except msgspec.DecodeError:
        return None


def _write(descriptor: int, held: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, msgspec.json.encode(held), 0)
    os.fsync(descriptor)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
