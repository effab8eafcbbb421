"""One lock per run directory and one per stage: two processes never write the same artifacts.

Locks are flock(2) on permanent files, released by the kernel however their holder dies. Each file names
its holder. An exclusive ``.lock`` reserves the run: a launcher holds it and passes the descriptor to its
recipes, so that a recipe that outlives a killed launcher still holds it.

The jobs of a submitted chain, and recipes that run one stage alone (--only), share ``.lock``: they run
side by side, but not beside a launcher. Each holds ``.locks/STAGE/.lock`` exclusively while it runs that
stage. On a network file system flock must work across nodes (docs/slurm.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nemo_cot.errors import Unfinished, UserError
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.provenance import utc_now

LOCK = ".lock"
STAGE_LOCKS = ".locks"
INHERITED = "NEMO_COT_LOCK_FD"
"""Environment variable: the descriptor that a launcher passes to its recipes."""
CHAIN_JOB = "NEMO_COT_CHAIN_JOB"
"""Environment variable: set in the jobs of a submitted chain, which share the run directory."""

_PATIENCE_SECONDS = 10.0
"""Long enough for the children of a killed holder to end on a busy machine."""
_PATIENCE_OF_JOBS_SECONDS = 120.0
"""After a node fails, a file server keeps its locks for the lease time, 90 s in NFSv4."""
_MOST_NAMED = 5


class Holder(msgspec.Struct):
    """Who holds a lock."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextlib.contextmanager
def run_lock(run_dir: Path, *, shared: bool = False, patience_seconds: float | None = None) -> Iterator[int]:
    """Hold the lock of ``run_dir``, exclusively or ``shared``, and yield its descriptor.

    Prints a line when it takes over from a dead holder; if exclusive, removes that holder's partial files.
    After ``patience_seconds`` (None: the default for a job, or for a process outside jobs) raises UserError
    naming the holder, or Unfinished in a job of a chain.
    """
    inherited = _inherited(run_dir / LOCK)
    if inherited is not None:
        yield inherited
        return
    with _open(run_dir / LOCK) as descriptor:
        if not _acquire(descriptor, patience_seconds, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            who = in_use_by(run_dir) or "another process"
            raise _refusal(f"this run directory is in use by {who}", run_dir)
        _take_over(descriptor)
        for cut in () if shared else run_dir.glob(".*.tmp"):  # of killed processes; if shared, of living ones
            cut.unlink(missing_ok=True)
        with contextlib.nullcontext() if shared else _named(descriptor):
            yield descriptor


@contextlib.contextmanager
def stage_lock(run_dir: Path, stage: str, *, patience_seconds: float | None = None) -> Iterator[None]:
    """Hold the lock of one stage of a run exclusively; otherwise as :func:`run_lock`."""
    path = run_dir / STAGE_LOCKS / stage / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open(path) as descriptor:
        if not _acquire(descriptor, patience_seconds, fcntl.LOCK_EX):
            who = _read(descriptor) or "another process"
            raise _refusal(f"the stage {stage} is in use by {who}", run_dir)
        _take_over(descriptor, f" of {stage}")
        with _named(descriptor):
            yield
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a worker forked meanwhile also has the descriptor


def holder(run_dir: Path) -> Holder | None:
    """Who holds the run in ``run_dir`` exclusively now; None if nobody does."""
    return _holder_of(run_dir / LOCK)


def stage_holders(run_dir: Path) -> dict[str, Holder]:
    """The stages of ``run_dir`` that are running now, by name."""
    top = run_dir / STAGE_LOCKS
    found = {path.parent.relative_to(top).as_posix(): _holder_of(path) for path in sorted(top.rglob(LOCK))}
    return {stage: held for stage, held in found.items() if held is not None}


def in_use_by(run_dir: Path) -> str:
    """Who works in ``run_dir``, in words: the exclusive holder, or those running its stages. Empty for nobody."""
    if (held := holder(run_dir)) is not None:
        return str(held)
    at = stage_holders(run_dir)
    if len(at) > 1:
        named = ", ".join(f"{h.pid} on {h.host} ({stage})" for stage, h in list(at.items())[:_MOST_NAMED])
        more = f" and {len(at) - _MOST_NAMED} more" if len(at) > _MOST_NAMED else ""
        return f"{len(at)} processes: {named}{more}"
    return next((f"{h} ({stage})" for stage, h in at.items()), "")


def _holder_of(path: Path) -> Holder | None:
    """Read-only: the caller may lack permission to write."""
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


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, patience_seconds: float | None, mode: int) -> bool:
    """Whether the lock was acquired in time."""
    if patience_seconds is None:
        patience_seconds = _PATIENCE_OF_JOBS_SECONDS if CHAIN_JOB in os.environ else _PATIENCE_SECONDS
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(0.05)


def _take_over(descriptor: int, of: str = "") -> None:
    if stale := _read(descriptor):
        print(f"stale lock{of}: {stale} ended without releasing it; taken over", flush=True)
    os.ftruncate(descriptor, 0)


@contextlib.contextmanager
def _named(descriptor: int) -> Iterator[None]:
    """Write this process as holder into the locked file, and remove it at the end."""
    os.pwrite(descriptor, msgspec.json.encode(Holder(os.getpid(), socket.gethostname(), utc_now())), 0)
    os.fsync(descriptor)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)


def _refusal(what: str, run_dir: Path) -> UserError:
    """A job retries later: the holder may be a failed node whose lock the file server keeps."""
    if CHAIN_JOB in os.environ:
        fix = "the job is requeued; if this persists, see Network file systems in docs/slurm.md"
        return Unfinished(what, where=str(run_dir), fix=fix)
    fix = "wait for it or stop it, or choose another run with name=OTHER"
    return UserError(what, where=str(run_dir), fix=fix)


def _inherited(path: Path) -> int | None:
    """The launcher's descriptor, if it refers to this lock file."""
    try:
        descriptor = int(os.environ[INHERITED])
        same = os.path.samestat(os.fstat(descriptor), path.stat())
    except (KeyError, ValueError, OSError):
        return None
    return descriptor if same else None


def _read(descriptor: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
    except DAMAGED:
        return None
