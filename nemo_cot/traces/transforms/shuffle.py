"""shuffle: steps of the thought change places at random."""

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
    """``dose``: the share of the steps that change places among themselves; never all back to where they
    were, if there are two different ones. ``split``: what a step is (nemo_cot/traces/steps.py).
    """

    dose: float
    split: Literal["shift", "paragraph"] = "shift"

    def edit(self, trace: Trace, parts: Parts, site: Site) -> Edit:
        """All steps stay, each once."""
        steps = segment(parts.thought, site.marks, split=self.split)
        bodies = [step.body for step in steps]
        places = sorted(drawn(len(steps), self.dose, site.draw))
        before = [bodies[place] for place in places]
        moved = before.copy()
        while len(set(before)) > 1 and moved == before:
            site.draw.shuffle(moved)
        for place, body in zip(places, moved, strict=True):
            bodies[place] = body
        return Edit(
            parts.with_thought(with_bodies(steps, bodies)), {"steps": len(steps), "shuffled": len(places)}
        )
