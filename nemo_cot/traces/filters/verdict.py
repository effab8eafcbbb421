"""verdict: drop traces whose answer was not graded as wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nemo_cot.records import Trace


@dataclass(frozen=True)
class Filter:
    """``keep``: the verdicts that pass, of right, wrong and undecided (as curate.verdicts)."""

    keep: list[Literal["right", "wrong", "undecided"]]

    def drops(self, trace: Trace, length: int) -> bool | str:
        """Whether the verdict is another; counted as verdict_VERDICT."""
        return False if trace.verdict in self.keep else f"verdict_{trace.verdict}"
