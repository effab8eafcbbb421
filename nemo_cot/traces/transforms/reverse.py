"""reverse: steps of the thought in the opposite order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nemo_cot.records import Trace
from nemo_cot.traces.edits import OfSteps, with_bodies
from nemo_cot.traces.steps import Step
from nemo_cot.traces.transforms import Site


@dataclass(frozen=True)
class Transform(OfSteps):
    """``dose``: the share of the steps that change places: the first of them with the last, and so on."""

    done: ClassVar[str] = "reversed"
    fewest: ClassVar[int] = 2

    def changed(self, steps: Sequence[Step], places: list[int], trace: Trace, site: Site) -> str:
        """All steps, each once."""
        places = sorted(places)
        return with_bodies(steps, {at: steps[other].body for at, other in zip(places, reversed(places))})
