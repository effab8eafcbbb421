"""Verdicts on disk, one file per version of a scorer: grading the same answers again costs a look-up."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.grading.verdict import UNDECIDED, Verdict, grader_version
from nemo_cot.io.json_file import DAMAGED

TRANSIENT = ("deadline", "memory", "worker-died")
"""Reasons that say something about the machine and its load, not about the answer."""


class _Entry(msgspec.Struct):
    gold: str
    prediction: str
    outcome: str
    reason: str


class VerdictCache:
    """Append-only JSON lines under ``directory``. Several processes may add to it at once.

    A line cut by a kill or mixed up by a network file system is passed over: it is a cache.
    """

    def __init__(self, directory: Path, version: str | None = None) -> None:
        """``version``: of the scorer; None: of mathematics."""
        name = re.sub(r"[^\w.]+", "-", version or grader_version())
        self.path = Path(directory) / f"verdicts-{name}.jsonl"
        self._encode = msgspec.json.Encoder().encode
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._known = self._load()
        except OSError as error:
            raise UserError(
                f"cannot use the verdict cache: {error.strerror}",
                where=str(self.path),
                fix="name a writable directory",
            ) from None

    def get(self, gold: str, prediction: str) -> Verdict | None:
        """The verdict of an earlier run of the same grader version."""
        return self._known.get((gold, prediction))

    def add(self, entries: Iterable[tuple[str, str, Verdict]]) -> None:
        """Keep verdicts; those that hang on the machine's load are left out."""
        lines = []
        for gold, prediction, verdict in entries:
            if verdict.outcome == UNDECIDED and verdict.reason.startswith(TRANSIENT):
                continue
            self._known[gold, prediction] = verdict
            lines.append(self._encode(_Entry(gold, prediction, verdict.outcome, verdict.reason)))
        if not lines:
            return
        data = b"\n" + b"\n".join(lines) + b"\n"  # the first break ends a line that another process lost
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def _load(self) -> dict[tuple[str, str], Verdict]:
        known: dict[tuple[str, str], Verdict] = {}
        if not self.path.exists():
            return known
        decode = msgspec.json.Decoder(_Entry).decode
        for line in self.path.read_bytes().split(b"\n"):
            try:
                entry = decode(line)
            except DAMAGED:
                continue
            known[entry.gold, entry.prediction] = Verdict(entry.outcome, entry.reason)
        return known
