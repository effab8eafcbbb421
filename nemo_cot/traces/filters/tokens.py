"""tokens: drop traces outside a window of lengths."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.records import Trace


@dataclass(frozen=True)
class Filter:
    """The student's tokens, the end-of-turn token included, from ``least`` to ``most``; null: no bound."""

    least: int | None = None
    most: int | None = None

    def drops(self, trace: Trace, length: int) -> bool | str:
        """Whether the length is out of bounds; counted as too_short or too_long."""
        if self.least is not None and length < self.least:
            return "too_short"
        return "too_long" if self.most is not None and length > self.most else False
