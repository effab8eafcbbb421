"""replace: steps of the thought give way to random steps of other problems' right traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from nemo_cot.records import Trace
from nemo_cot.traces.edits import OfSteps, with_bodies
from nemo_cot.traces.steps import Step
from nemo_cot.traces.transforms import Site


@dataclass(frozen=True)
class Transform(OfSteps):
    """``dose``: the share of the steps that are replaced ("inserted" in arXiv 2502.07374). ``donors``:
    chosen, the right ones among the chosen traces, or pool, all right ones.
    """

    done: ClassVar[str] = "replaced"

    donors: Literal["chosen", "pool"] = "chosen"

    def changed(self, steps: Sequence[Step], places: list[int], trace: Trace, site: Site) -> str:
        """As many steps as before."""
        return with_bodies(steps, {at: site.donors.step(trace, site.draw, self.split) for at in places})
