"""boxes: drop traces with too few or too many boxes."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.records import Trace
from nemo_cot.traces.filters import Context, Drops


@dataclass(frozen=True)
class Filter:
    """How many boxes there may be, complete and not empty, as the grader finds them: from ``least`` to ``most``, in the
    whole generation, or with ``final`` in the final solution alone, behind the thought (nemo_cot/traces/thought.py).
    """

    least: int = 1
    most: int = 1
    final: bool = False

    @property
    def needs_marks(self) -> bool:
        """The thought is found by them."""
        return self.final

    def bind(self, context: Context) -> Drops:
        """Whether the count is out of bounds."""

        from nemo_cot.grading.extraction import boxes

        def drops(trace: Trace, length: int) -> bool:
            text = trace.generation
            if self.final:
                from nemo_cot.traces.thought import split_thought

                text = split_thought(text, context.marks).solution
            return not self.least <= len(boxes(text)) <= self.most

        return drops
