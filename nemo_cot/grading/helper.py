"""A warm process that forks grading workers.

It is started once for a grading process, imports SymPy and math-verify (seconds), and forks a
worker in milliseconds when asked. It has one thread and no torch, so its forks are safe whatever
the process that grades has loaded; the workers it forks are its own children, so a process id
it kills is never another process's.

Commands on the socket that :func:`main` is given, each answered before
the next: ``F`` with a rule (its place in :func:`rules`) and a descriptor forks a worker that serves it, and answers its
process id, after the imports of that rule the first time; ``K`` with a process id kills that worker. It ends, with all workers, when the socket closes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from typing import NoReturn

from nemo_cot.grading.scorers import scorer_class, scorer_names
from nemo_cot.grading.worker import NEMO_SKILLS, serve

COMMAND = struct.Struct("!cq")
ANSWER = struct.Struct("!q")


def rules() -> list[str]:
    """What a worker may be asked for: NeMo-Skills' rule, and those of the scorers."""
    return [NEMO_SKILLS, *scorer_names()]


def main(descriptor: int) -> None:
    """Serve commands until the other side closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=descriptor)
    _warm_up()
    children: set[int] = set()
    warm = {NEMO_SKILLS}
    control.sendall(ANSWER.pack(0))
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, COMMAND.size, 1)
        if len(message) < COMMAND.size:
            break
        command, pid = COMMAND.unpack(message)
        if command == b"F":
            if (rule := rules()[pid]) not in warm:
                scorer_class(rule).warm_up()
                warm.add(rule)
            answer = _fork(control, descriptors[0])
            children.add(answer)
        else:
            answer = _kill(pid, children)
        control.sendall(ANSWER.pack(answer))
    for pid in children:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _warm_up() -> None:
    """Load the libraries and fill their parsers' caches, so that every fork has them."""
    from nemo_cot.grading.answers.rules import grade_by_rules
    from nemo_cot.grading.answers.symbolic import grade_by_sympy
    from nemo_cot.grading.nemo_skills_rule import nemo_skills_equal

    for gold, prediction in (
        (r"\frac{1}{2}+\sqrt{3}", r"\sqrt{3}+0.5"),
        (r"\int_0^1 x^2 dx", r"\frac{x^2}{3}"),
    ):
        grade_by_rules(gold, prediction)
        grade_by_sympy(gold, prediction)
        nemo_skills_equal(gold, prediction)


def _fork(control: socket.socket, descriptor: int) -> int:
    pid = os.fork()
    if pid == 0:
        _run_worker(control, descriptor)
    os.close(descriptor)
    return pid


def _run_worker(control: socket.socket, descriptor: int) -> NoReturn:
    """The child's life. It leaves by os._exit: nothing of the helper may run in it."""
    status = 1
    try:
        control.close()
        serve(descriptor)
        status = 0
    finally:
        os._exit(status)


def _kill(pid: int, children: set[int]) -> int:
    """Kill and reap one of our own children; anything else is left alone."""
    if pid not in children:
        return -1
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    children.discard(pid)
    return pid
