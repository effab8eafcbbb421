"""replace: steps of the thought give way to random steps of other problems' right traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nemo_cot.records import Trace
from nemo_cot.traces.edits import drawn, with_bodies
from nemo_cot.traces.steps import segment
from nemo_cot.traces.thought import Parts
from nemo_cot.traces.transforms import Edit, Site


@dataclass(frozen=True)
class Transform:
    """``dose``: the share of the steps that are replaced ("inserted" in arXiv 2502.07374). ``donors``:
    chosen, the right ones among the chosen traces, or pool, all right ones. ``split``: what a step is
    (nemo_cot/traces/steps.py).
    """

    dose: float
    donors: Literal["chosen", "pool"] = "chosen"
    split: Literal["shift", "paragraph"] = "shift"

    def edit(self, trace: Trace, parts: Parts, site: Site) -> Edit:
        """The number of steps stays, and the others are as they were."""
        steps = segment(parts.thought, site.marks, split=self.split)
        bodies = [step.body for step in steps]
        chosen = drawn(len(steps), self.dose, site.draw)
        for place in chosen:
            bodies[place] = site.donors.step(trace, site.draw, self.split)
        return Edit(
            parts.with_thought(with_bodies(steps, bodies)), {"steps": len(steps), "replaced": len(chosen)}
        )
