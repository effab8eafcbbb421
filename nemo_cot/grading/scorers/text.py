# ruff: noqa: RUF001  (the signs are meant as they stand)
"""text: the same words as an accepted answer, by the rule of SQuAD."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Hashable
from dataclasses import dataclass, field

from nemo_cot.grading.extraction import Extraction
from nemo_cot.grading.plain_text import bare, plain
from nemo_cot.grading.scorers import Scoring
from nemo_cot.grading.verdict import RIGHT, WRONG, Verdict

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_IN_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_BEFORE_DIGIT = ".,-/:"


@dataclass(frozen=True)
class Scorer(Scoring):
    """``accepted``: right answers beside the expected one."""

    accepted: list[str] = field(default_factory=list)

    def check(self, gold: str) -> None:
        """An answer in words is not empty."""
        if not all(text.strip() for text in (gold, *self.accepted)):
            raise ValueError("an accepted answer is empty")

    def extract(self, text: str, *, fallback: str, thoughts: str) -> Extraction:
        """Without markup."""
        return bare(super().extract(text, fallback=fallback, thoughts=thoughts))

    def verdict(self, gold: str, answer: str) -> Verdict:
        """Right if it has the normal form of one of them; no part of a text is enough."""
        same = normal_form(plain(answer)) in {normal_form(plain(text)) for text in (gold, *self.accepted)}
        return Verdict(RIGHT, "same-words") if same else Verdict(WRONG, "other-words")

    @staticmethod
    def ballot(answer: str) -> Hashable:
        """By their normal form."""
        return normal_form(plain(answer))


def normal_form(text: str) -> str:
    """NFKC, case folded, without punctuation, articles and blanks at the ends, other blanks as one: SQuAD 1.1's
    normalize_answer (Rajpurkar et al. 2016, arXiv 1606.05250), in Unicode.

    Two differences, so that 1.5 is not 15 nor -5 the same as 5: a point, comma, hyphen, slash or colon before a digit
    stays (not the comma of 1,000); and a text of which nothing would be left, such as "The", stays as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold().replace("−", "-")
    bare = _IN_NUMBER.sub("", folded)
    kept = "".join(
        c for c, then in zip(bare, bare[1:] + " ")
        if not (c in string.punctuation or unicodedata.category(c)[0] == "P") or (c in _BEFORE_DIGIT and then.isdigit())
    )  # fmt: skip
    return " ".join(_ARTICLES.sub(" ", kept).split()) or " ".join(folded.split())
