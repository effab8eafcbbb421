"""math: equal as mathematics, by typed rules, then by math-verify on what they leave open."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from nemo_cot.grading.answers.canonical import canonical_key
from nemo_cot.grading.answers.rules import grade_by_rules
from nemo_cot.grading.extraction import Extraction, extract
from nemo_cot.grading.scorers import Scoring
from nemo_cot.grading.verdict import UNDECIDED, Verdict, grader_version


@dataclass(frozen=True)
class Scorer(Scoring):
    """It needs the expected answer alone."""

    in_workers = True

    @classmethod
    def full_version(cls) -> str:
        """With those of the libraries."""
        return grader_version()

    def extract(self, text: str, *, fallback: str, thoughts: str) -> Extraction:
        """The last box, or else a formula or number."""
        return extract(text, fallback=fallback, thoughts=thoughts)

    def verdict(self, gold: str, answer: str) -> Verdict:
        """The typed rules, then math-verify on what they leave open."""
        verdict, open_for_sympy = grade_by_rules(gold, answer)
        if not open_for_sympy:
            return verdict
        from nemo_cot.grading.answers.symbolic import grade_by_sympy

        found = grade_by_sympy(gold, answer)
        return found if found.outcome != UNDECIDED else Verdict(UNDECIDED, f"{verdict.reason}; {found.reason}")

    @staticmethod
    def ballot(answer: str) -> Hashable:
        """Mathematically equal answers vote together."""
        return canonical_key(answer)
