"""Grade in worker processes that can be killed: one deadline an answer, kept by the parent."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.grading.helper import ANSWER, COMMAND, rules
from nemo_cot.grading.verdict import UNDECIDED, Verdict
from nemo_cot.grading.worker import Batch, Reply

_START_SECONDS = 120.0
"""The import of SymPy takes 2 s, and 20 s and more on a machine that starts many processes at once."""

_CHUNK = 32
"""Pairs a worker gets at a time."""

_BY_THE_CLOCK = 30
"""A deadline is CPU time, so that no verdict hangs on what else a machine does; by the clock it is that many
times as long, for a worker that is stopped or swapped out.
"""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Reply).decode


class _Helper:
    """The warm process (see helper.py), started at the first use and shared by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._control: socket.socket | None = None
        self._process: subprocess.Popen | None = None

    def fork(self, rule: str) -> tuple[int, Connection]:
        """Process id of a new worker for ``rule``, and the connection to it."""
        ours, theirs = socket.socketpair()
        with theirs:
            pid = self._command(b"F", rules().index(rule), theirs)
        return pid, Connection(ours.detach())

    def kill(self, pid: int) -> None:
        """Kill and reap a worker that was forked here."""
        self._command(b"K", pid, None)

    def _command(self, command: bytes, pid: int, descriptor: socket.socket | None) -> int:
        with self._lock:
            control = self._started()
            descriptors = [descriptor.fileno()] if descriptor else []
            try:
                socket.send_fds(control, [COMMAND.pack(command, pid)], descriptors)
                return ANSWER.unpack(_read(control, ANSWER.size))[0]
            except (OSError, EOFError):
                self._control = None
                raise UserError(
                    "the grading helper process ended", where="grading", fix="run again; check free memory"
                ) from None

    def _started(self) -> socket.socket:
        """The control socket; a fork of this process starts a helper of its own."""
        if self._control is not None and self._owner == os.getpid():
            return self._control
        ours, theirs = socket.socketpair()
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, os.environ.get("PYTHONPATH", "")]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from nemo_cot.grading.helper import main; main({theirs.fileno()})"],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)},
            )  # fmt: skip
        ours.settimeout(_START_SECONDS)
        try:
            _read(ours, ANSWER.size)
        except (EOFError, TimeoutError, OSError):
            raise UserError(
                "the grading helper process did not start",
                where="grading",
                fix="check the installation of math-verify",
            ) from None
        self._control, self._owner = ours, os.getpid()
        atexit.register(self.close)
        return ours

    def close(self) -> None:
        """End the helper and with it all workers."""
        if self._control is None or self._owner != os.getpid():
            return
        self._control.close()
        self._control = None
        self._process.wait()


def _read(control: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = control.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


_HELPER = _Helper()


class _Worker:
    """One worker, the pairs it still owes, and since when it has been at the first of them."""

    def __init__(self, rule: str) -> None:
        self.pid, self.connection = _HELPER.fork(rule)
        self.owed: deque[int] = deque()
        self.begins()

    def begins(self) -> None:
        """It is at another pair from now on."""
        self.since, self.cpu = time.monotonic(), _cpu_seconds(self.pid)

    def spent(self) -> float:
        """Seconds that its pair has cost, as a deadline counts them."""
        seconds, cpu = time.monotonic() - self.since, _cpu_seconds(self.pid)
        return seconds if cpu is None or self.cpu is None else max(cpu - self.cpu, seconds / _BY_THE_CLOCK)

    def give(self, indices: Sequence[int], batch: Batch) -> None:
        self.owed.extend(indices)
        self.begins()
        self.connection.send_bytes(_encode(batch))

    def end(self) -> None:
        self.connection.close()
        _HELPER.kill(self.pid)


def _cpu_seconds(pid: int) -> float | None:
    """CPU time of a process (clock_getcpuclockid(3), as Linux has it); None where there is no such clock."""
    try:
        return time.clock_gettime(~pid << 3 | 2) if sys.platform == "linux" else None
    except OSError:  # it has ended
        return None


def grade_in_workers(
    pairs: Sequence[tuple[str, str | None]],
    *,
    rule: str,
    workers: int,
    deadline_seconds: float,
    on_verdict: Callable[[int, Verdict], None],
) -> None:
    """Call ``on_verdict(index, verdict)`` for every pair, in any order.

    ``rule`` and ``pairs`` as in :class:`worker.Batch`. A pair that takes more CPU time than
    ``deadline_seconds``, or that ends its worker, is undecided and costs that worker, which is replaced. Works from any
    thread. Raises UserError if the helper process cannot run.
    """
    _Run(pairs, rule, workers, deadline_seconds, on_verdict).run()


class _Run:
    """The state of one call of :func:`grade_in_workers`."""

    def __init__(
        self,
        pairs: Sequence[tuple[str, str | None]],
        rule: str,
        workers: int,
        deadline_seconds: float,
        on_verdict: Callable[[int, Verdict], None],
    ) -> None:
        self.pairs, self.rule, self.on_verdict = pairs, rule, on_verdict
        self.limit = max(1, min(workers, len(pairs)))
        self.deadline_seconds = deadline_seconds
        self.waiting = deque(range(len(pairs)))
        self.workers: dict[Connection, _Worker] = {}

    def run(self) -> None:
        try:
            while self.waiting or any(w.owed for w in self.workers.values()):
                self._give_out()
                for connection in wait(list(self.workers), self._patience()):
                    self._receive(self.workers[connection])
                self._enforce_deadline()
        finally:
            for worker in self.workers.values():
                worker.end()

    def _give_out(self) -> None:
        """Chunks to idle workers; fewer at the end, so that all finish together."""
        while self.waiting and len(self.workers) < self.limit:
            worker = _Worker(self.rule)
            self.workers[worker.connection] = worker
        for worker in list(self.workers.values()):
            if worker.owed or not self.waiting:
                continue
            size = max(1, min(_CHUNK, len(self.waiting) // (2 * self.limit)))
            indices = [self.waiting.popleft() for _ in range(size)]
            batch = Batch(self.rule, self.deadline_seconds, [self.pairs[i] for i in indices])
            try:
                worker.give(indices, batch)
            except OSError:
                self._lose(worker, "worker-died")

    def _patience(self) -> float:
        """Seconds until the next deadline at the earliest."""
        left = [self.deadline_seconds - w.spent() for w in self.workers.values() if w.owed]
        return max(0.01, min(left, default=0.0))

    def _receive(self, worker: _Worker) -> None:
        try:
            reply = _decode(worker.connection.recv_bytes())
        except (EOFError, OSError, msgspec.DecodeError):
            self._lose(worker, "worker-died: memory or a crash")
            return
        self.on_verdict(worker.owed.popleft(), Verdict(reply.outcome, reply.reason))
        worker.begins()

    def _enforce_deadline(self) -> None:
        for worker in list(self.workers.values()):
            late = worker.owed and worker.spent() >= self.deadline_seconds
            if late and not worker.connection.poll():
                self._lose(worker, f"deadline: {self.deadline_seconds:g} s")

    def _lose(self, worker: _Worker, reason: str) -> None:
        """Give up the pair a worker is at, put the others back, end the worker."""
        del self.workers[worker.connection]
        if worker.owed:
            self.on_verdict(worker.owed.popleft(), Verdict(UNDECIDED, reason))
        self.waiting.extendleft(reversed(worker.owed))
        worker.end()
