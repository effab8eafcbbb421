"""delete: steps of the thought are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nemo_cot.records import Trace
from nemo_cot.traces.edits import OfSteps, without
from nemo_cot.traces.steps import Step
from nemo_cot.traces.transforms import Site


@dataclass(frozen=True)
class Transform(OfSteps):
    """``dose``: the share of the steps that are left out; of all, the final solution remains."""

    done: ClassVar[str] = "deleted"

    def changed(self, steps: Sequence[Step], places: list[int], trace: Trace, site: Site) -> str:
        """The other steps, in their order."""
        return without([step.text for step in steps], places)
