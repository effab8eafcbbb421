"""boxes: drop traces with too few or too many boxes."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.records import Trace

_BOX = "\\boxed"


@dataclass(frozen=True)
class Filter:
    """How often ``\\boxed`` may occur in the generation: from ``least`` to ``most`` times."""

    least: int = 1
    most: int = 1

    def drops(self, trace: Trace, length: int) -> bool:
        """Whether the count is out of bounds."""
        return not self.least <= trace.generation.count(_BOX) <= self.most
