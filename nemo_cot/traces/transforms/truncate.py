"""truncate: the trace ends early, without its final solution: a partial solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nemo_cot.records import Trace
from nemo_cot.traces.edits import share
from nemo_cot.traces.steps import segment
from nemo_cot.traces.thought import Parts
from nemo_cot.traces.transforms import Edit, Site


@dataclass(frozen=True)
class Transform:
    """``dose``: the share of the thought's steps that are cut off its end, all but the first at most; any
    dose above 0 cuts the final solution too. ``end_of_turn``: whether the student is taught to stop there.
    ``split``: what a step is (nemo_cot/traces/steps.py). A trace without a thought keeps its final solution.
    """

    dose: float
    end_of_turn: bool = True
    split: Literal["shift", "paragraph"] = "shift"

    def edit(self, trace: Trace, parts: Parts, site: Site) -> Edit:
        """What stays is the beginning of the text, to the letter."""
        steps = segment(parts.thought, site.marks, split=self.split)
        if not self.dose or not steps:
            return Edit(trace.generation, {"steps": len(steps), "cut": 0, "solutions": 0})
        kept = max(1, len(steps) - share(len(steps), self.dose))
        text = parts.before + "".join(step.text for step in steps[:kept]).rstrip()
        ungraded = {"predicted_answer": None, "answer_source": None, "verdict": None, "verdict_reason": None,
                    "symbolic_correct": None, "nemo_skills_answer": None}  # fmt: skip
        return Edit(
            text,
            {"steps": len(steps), "cut": len(steps) - kept, "solutions": 1},
            {**ungraded, "trains_end_of_turn": self.end_of_turn},
        )
