"""shuffle: steps of the thought change places at random."""

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
    """``dose``: the share of the steps that change places among themselves, in one random cycle through all of them
    (Sattolo 1986): a permutation would leave one of them in its place on average, which is much of a low dose.
    """

    done: ClassVar[str] = "shuffled"
    fewest: ClassVar[int] = 2

    def changed(self, steps: Sequence[Step], places: list[int], trace: Trace, site: Site) -> str:
        """All steps, each once."""
        places = sorted(places)
        moved = [steps[place].body for place in places]
        for at in range(len(moved) - 1, 0, -1):
            other = site.draw.randrange(at)
            moved[at], moved[other] = moved[other], moved[at]
        return with_bodies(steps, dict(zip(places, moved)))
