"""What a grading worker does: limits on itself, then pairs in, verdicts out, one by one."""

from __future__ import annotations

import gc
import os
import resource
import sys
from multiprocessing.connection import Connection

import msgspec

from nemo_cot.grading.scorers import judge
from nemo_cot.grading.verdict import RIGHT, UNDECIDED, WRONG, Verdict

MEMORY_BYTES = 400 << 20
"""Address space that a worker may add to what it was forked with."""


NEMO_SKILLS = "nemo_skills"
"""The rule of NeMo-Skills, beside those of the scorers."""


class Batch(msgspec.Struct):
    """Pairs (gold, prediction) for one worker. ``rule``: a scorer, whose golds are scorers.question, or NEMO_SKILLS."""

    rule: str
    cpu_seconds: float
    pairs: list[tuple[str, str | None]]


class Reply(msgspec.Struct):
    """The verdict of the next pair of the batch."""

    outcome: str
    reason: str


_decode = msgspec.msgpack.Decoder(Batch).decode
_encode = msgspec.msgpack.Encoder().encode


def serve(descriptor: int) -> None:
    """Answer batches on ``descriptor`` until the other side closes it."""
    _limit()
    connection = Connection(descriptor)
    while True:
        try:
            batch = _decode(connection.recv_bytes())
        except (EOFError, OSError):
            return
        for gold, prediction in batch.pairs:
            _allow_cpu(batch.cpu_seconds)
            verdict = _grade(batch.rule, gold, prediction)
            connection.send_bytes(_encode(Reply(verdict.outcome, verdict.reason)))


def _limit() -> None:
    """Bound memory, forbid core dumps and files; keep what a broken answer prints off the terminal."""
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_FSIZE, 0)
    with open("/proc/self/statm") if sys.platform == "linux" else open(os.devnull) as handle:
        pages = handle.read().split()
    if pages:
        _set_limit(resource.RLIMIT_AS, int(pages[0]) * resource.getpagesize() + MEMORY_BYTES)
    gc.collect()
    gc.freeze()


def _set_limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _allow_cpu(seconds: float) -> None:
    """Let the kernel end this process ``seconds`` from now: the parent may be gone or stopped by then."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set_limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + seconds) + 2)


def _grade(rule: str, gold: str, prediction: str | None) -> Verdict:
    try:
        return _nemo_skills(gold, prediction) if rule == NEMO_SKILLS else judge(rule, gold, prediction)
    except MemoryError:
        return Verdict(UNDECIDED, "memory: the worker's limit was reached")
    except RecursionError:
        return Verdict(UNDECIDED, "too-deep")


def _nemo_skills(gold: str, prediction: str) -> Verdict:
    from nemo_cot.grading.nemo_skills_rule import nemo_skills_equal

    try:
        return Verdict(RIGHT if nemo_skills_equal(gold, prediction) else WRONG, "nemo-skills")
    except MemoryError:
        raise
    except Exception as error:
        return Verdict(UNDECIDED, f"nemo-skills: {type(error).__name__}")
