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
    """``dose``: the share of the steps that change places among themselves; never all back to where they
    were, if there are two different ones.
    """

    done: ClassVar[str] = "shuffled"

    def changed(self, steps: Sequence[Step], places: list[int], trace: Trace, site: Site) -> str:
        """All steps, each once."""
        places = sorted(places)
        before = [steps[place].body for place in places]
        moved = before.copy()
        while len(set(before)) > 1 and moved == before:
            site.draw.shuffle(moved)
        return with_bodies(steps, dict(zip(places, moved)))
