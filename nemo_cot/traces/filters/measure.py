"""measure: drop traces of which a structural measure is out of bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nemo_cot.traces.filters import Context, Drops


@dataclass(frozen=True)
class Bound:
    """From ``least`` to ``most``; null: no bound."""

    least: float | None = None
    most: float | None = None


@dataclass(frozen=True)
class Filter:
    """``bounds`` by a measure's name (nemo_cot/traces/structure): {keyword_density: {least: 0.01}}. A trace
    of which the measure is not defined is dropped.
    """

    needs_marks: ClassVar[bool] = True

    bounds: dict[str, Bound]

    def __post_init__(self) -> None:
        from nemo_cot.traces.structure import measure_names

        if not self.bounds:
            raise ValueError("no bound is given")
        if unknown := [name for name in self.bounds if name not in measure_names()]:
            raise ValueError(f"there is no measure {unknown[0]!r}; there are {', '.join(measure_names())}")

    def bind(self, context: Context) -> Drops:
        """Counted as measure_NAME."""

        def drops(trace, length: int) -> bool | str:
            view = context.view(trace, length)
            for name, bound in self.bounds.items():
                value = view.measured(name)
                low = bound.least is None or value >= bound.least  # NaN fails
                high = bound.most is None or value <= bound.most
                if not (low and high) or value != value:
                    return f"measure_{name}"
            return False

        return drops
