"""answer: the final answer gives way to a wrong one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from nemo_cot.errors import UserError
from nemo_cot.grading.extraction import THOUGHTS, boxes
from nemo_cot.grading.scorers import MATH, load_scorer, question
from nemo_cot.records import Trace
from nemo_cot.traces.thought import Parts
from nemo_cot.traces.transforms import Edit, Site

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LETTER = re.compile(r"(?<![A-Za-z\\])[A-E](?![A-Za-z])")
_DRAWS = 50


@dataclass(frozen=True)
class Transform:
    """``dose``: the probability that a trace's answer is replaced. ``where``: box, in the final solution's
    boxes that hold it (without a box there: where it stands last, and in the thought's boxes), or everywhere, at each
    place where it stands alone. The wrong answer is the right one with another number or letter, or else another problem's; the
    grader must call it wrong.
    """

    dose: float
    where: Literal["box", "everywhere"] = "box"

    def edit(self, trace: Trace, parts: Parts, site: Site) -> Edit:
        """The rest of the text stays, to the letter."""
        if site.draw.random() >= self.dose:
            return Edit(trace.generation, {"answers": 0})
        text, spans = trace.generation, boxes(trace.generation)
        solution = len(parts.before + parts.thought)
        final = [span for span in spans if span[0] >= solution]
        old = text[slice(*final[-1])].strip() if final else _found(trace)
        if not old:
            raise _impossible(trace, "no answer is found in it")
        new = self._wrong(trace, old, site)
        everywhere = self.where == "everywhere"
        same = [(a, b) for a, b in (spans if everywhere else final or spans) if text[a:b].strip() == old]
        if everywhere:
            alone = re.compile(rf"(?<![\w.\\]){re.escape(old)}(?!\w|\.\d)")
            same += [
                match.span()
                for match in alone.finditer(text)
                if not any(a <= match.start() < b for a, b in same)
            ]
        elif not final and old in (text[solution:] if same else text):
            same.append((at := text.rindex(old), at + len(old)))
        if not same:
            raise _impossible(trace, f"{old!r} does not stand in it as it was read")
        for a, b in sorted(same, reverse=True):
            text = text[:a] + new + text[b:]
        changes = {"predicted_answer": new, "verdict": "wrong", "verdict_reason": "answer replaced",
                   "symbolic_correct": None, "nemo_skills_answer": None}  # fmt: skip
        return Edit(text, {"answers": len(same), "was": old, "is": new}, changes)

    def _wrong(self, trace: Trace, old: str, site: Site) -> str:
        from nemo_cot.grading import grade

        asked = question(trace.scorer, trace.expected_answer, trace.scorer_data)
        for _ in range(_DRAWS):
            new = _other(trace, old, site)
            if new != old and grade(asked, new, scorer=trace.scorer or MATH).outcome == "wrong":
                return new
        raise _impossible(trace, f"no answer that is surely wrong was found in place of {old!r}")


def _found(trace: Trace) -> str | None:
    scorer = load_scorer(trace.scorer, trace.scorer_data, where=f"trace {trace.problem_id}")
    return scorer.extract(trace.generation, fallback="last_number", thoughts=THOUGHTS[0]).answer


def _other(trace: Trace, old: str, site: Site) -> str:
    """``old`` with another number or letter in it, or else the answer of another problem."""
    if numbers := list(_NUMBER.finditer(old)):
        one = site.draw.choice(numbers)
        whole, dot, decimals = one[0].partition(".")
        digits = int(whole + decimals)
        by = site.draw.randint(1, max(3, digits // 5)) * site.draw.choice((-1, 1))
        changed = str(abs(digits + by)).zfill(len(decimals) + 1)
        cut = len(changed) - len(decimals)
        return old[: one.start()] + changed[:cut] + dot + changed[cut:] + old[one.end() :]
    if letters := list(_LETTER.finditer(old)):
        one = site.draw.choice(letters)
        letters_there = [*(trace.scorer_data or {}).get("options", "ABCDE")]
        return old[: one.start()] + site.draw.choice(letters_there) + old[one.end() :]
    return site.donors.another(trace, site.draw).expected_answer


def _impossible(trace: Trace, why: str) -> UserError:
    return UserError(
        why, where=f"transform answer, trace {trace.problem_id}, sample {trace.sample}",
        fix="leave the trace out (curate.filters), or lower the dose",
    )  # fmt: skip
