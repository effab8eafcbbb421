"""delete: steps of the thought are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nemo_cot.records import Trace
from nemo_cot.traces.edits import drawn, without
from nemo_cot.traces.steps import segment
from nemo_cot.traces.thought import Parts
from nemo_cot.traces.transforms import Edit, Site


@dataclass(frozen=True)
class Transform:
    """``dose``: the share of the steps that are left out; of all, the final solution remains. ``split``: what
    a step is (nemo_cot/traces/steps.py).
    """

    dose: float
    split: Literal["shift", "paragraph"] = "shift"

    def edit(self, trace: Trace, parts: Parts, site: Site) -> Edit:
        """The other steps stay, in their order."""
        steps = segment(parts.thought, site.marks, split=self.split)
        dropped = set(drawn(len(steps), self.dose, site.draw))
        text = parts.with_thought(without([step.text for step in steps], dropped))
        return Edit(text, {"steps": len(steps), "deleted": len(dropped)})
