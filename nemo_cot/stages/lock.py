"""One lock a run directory: two runs never write the same artifacts.

The lock is an flock(2) on ``.lock``, which the kernel frees when its holder dies, however it dies.
The file names the holder. A launcher keeps the lock and hands the descriptor down to its recipes,
so that a recipe that outlives a killed launcher still holds it.

The jobs of a submitted chain, and recipes that run one chunk of a stage, share ``.lock`` and hold
``.lock-PART`` alone: they run side by side, and nothing else does. On a network file system flock
must hold between nodes (docs/slurm.md).
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
LOCK_PART = "NEMO_COT_LOCK_PART"
"""Environment variable: the part that a job of a submitted chain locks; a plain name."""


class Holder(msgspec.Struct):
    """Who holds a lock."""

    pid: int
    host: str
    since: str


@contextlib.contextmanager
def run_lock(run_dir: Path, *, part: str | None = None, patience_seconds: float = 3.0) -> Iterator[int]:
    """Hold the lock of ``run_dir``, or of its ``part`` alone (a plain name), and yield its descriptor.

    ``patience_seconds`` covers the moment in which a killed holder's children end. Prints a line
    when it takes over from a holder that died. Raises UserError naming the holder otherwise.
    """
    inherited = _inherited(run_dir / LOCK)
    if inherited is not None:
        yield inherited
    elif part is None:
        with _exclusive(run_dir / LOCK, patience_seconds) as descriptor:
            yield descriptor
    else:
        with _shared(run_dir / LOCK, patience_seconds):
            with _exclusive(run_dir / f"{LOCK}-{part}", patience_seconds) as descriptor:
                yield descriptor


@contextlib.contextmanager
def _shared(path: Path, patience_seconds: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _acquire(descriptor, path, patience_seconds, fcntl.LOCK_SH)
        _say_if_stale(descriptor)
        os.ftruncate(descriptor, 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _exclusive(path: Path, patience_seconds: float) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _acquire(descriptor, path, patience_seconds, fcntl.LOCK_EX)
        _say_if_stale(descriptor)
        _write(descriptor, Holder(os.getpid(), socket.gethostname(), _now()))
        try:
            yield descriptor
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _say_if_stale(descriptor: int) -> None:
    if stale := _read(descriptor):
        print(
            f"stale lock: process {stale.pid} on {stale.host} (since {stale.since}) ended without "
            "releasing it; taken over",
            flush=True,
        )


def holder(run_dir: Path) -> Holder | None:
    """Who holds the lock of ``run_dir``, or of a part of it, now; None when nobody does."""
    paths = [run_dir / LOCK, *sorted(run_dir.glob(f"{LOCK}-*"))]
    return next((held for path in paths if (held := _holder_of(path))), None)


def _holder_of(path: Path) -> Holder | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor)
    finally:
        os.close(descriptor)
    return None


def _acquire(descriptor: int, path: Path, patience_seconds: float, mode: int) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _refusal(descriptor, path) from None
        time.sleep(0.05)


def _refusal(descriptor: int, path: Path) -> UserError:
    held = _read(descriptor) or holder(path.parent)
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
