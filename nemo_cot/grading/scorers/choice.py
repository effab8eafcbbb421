# ruff: noqa: RUF001  (the signs are meant as they stand)
"""choice: one of several options, by its letter or by its whole text."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, replace
from string import ascii_uppercase

from nemo_cot.grading.extraction import PHRASE, Extraction, extract
from nemo_cot.grading.plain_text import bare, behind, find_text, plain
from nemo_cot.grading.scorers import Scoring
from nemo_cot.grading.verdict import RIGHT, UNDECIDED, WRONG, Verdict

_OPTION = re.compile(
    r"\b(?:option|choice|letter)\b\s{0,3}(?:(?:\*\*|__)\s{0,3})?(?:[:=]|\s{1,3}(?:is|must\s{1,3}be|would\s{1,3}be)\b)[\s*_:]{0,9}",
    re.IGNORECASE,
)
_WORD = r"(?:(?i:the|correct|right|best|final|option|choice|answer|letter|is|it|both|either|only)\b[\s:]*)*"
_HEAD = 80
"""Characters at either end of an answer in which letters are looked for; all of it may be the text of an option."""
_ALONE = r"([A-Z])(?![\w'=+^(]|-\w)"
"""Not the first of a word or formula: B-DNA, C=O, N(CH3)3."""
_LETTER = re.compile(rf"\W*{_WORD}\W*{_ALONE}")
"""A letter at the beginning: (B), option B, **B.** in "B) 12 m", "B because ..."."""
_FURTHER = re.compile(r"[\s)*\]}.:]*(?:,|;|/|&|\band\b|\bor\b)(?:\s|\bor\b|\band\b|\boption\b)*\W*" + _ALONE)
_AT_END = re.compile(r"\(([A-Z])\)\W*$")
_ON = re.compile(r"\s+(?:because|since|as|for|due|given|which|where|with|is|would|will|and|or|by|follows)\b|\s*(?:[^\w\s]|$)")
"""What may follow the letter A or I, unless it is a word: "A because", "A) ...", not "A long chain"."""
_BETWEEN = " )*]}.:,-–—\n"


@dataclass(frozen=True)
class Scorer(Scoring):
    """``options``: their texts by letter, in the order of the problem."""

    options: dict[str, str]

    @property
    def chance(self) -> float | None:
        """One of the options."""
        return 1 / len(self.options) if self.options else None

    def check(self, gold: str) -> None:
        """Two options or more, named A, B, C, ...; the expected answer is one of the letters."""
        letters = list(self.options)
        if len(letters) < 2 or letters != list(ascii_uppercase[: len(letters)]):
            raise ValueError(f"the options are named {', '.join(letters) or 'nothing'}, not A, B, ...")
        if gold not in self.options:
            raise ValueError(f"the expected answer {gold!r} is none of the letters {', '.join(letters)}")

    def extract(self, text: str, *, fallback: str, thoughts: str) -> Extraction:
        """The letter, where there is just one; else what stands in its place."""
        found = extract(text, fallback=fallback, thoughts=thoughts, find=self._find)
        if found.answer is None:
            return found
        letters = self.letters(plain(found.answer))
        return replace(found, answer=letters[0]) if len(letters) == 1 else bare(found)

    def _find(self, text: str, fallback: str) -> Extraction:
        """The last box; then the last phrase, such as "the answer is" or "correct option:", that a letter or an option
        follows; then the last line, if it is one.
        """
        return find_text(text, fallback, self._said, self._names)

    def _said(self, text: str) -> str | None:
        ends = sorted(m.end() for pattern in (PHRASE, _OPTION) for m in deque(pattern.finditer(text), maxlen=5))
        said = [answer for end in reversed(ends) if (answer := behind(text, end))]
        return next(filter(self._names, said), said[0] if said else None)

    def _names(self, answer: str) -> bool:
        return bool(self.letters(plain(answer)))

    def verdict(self, gold: str, answer: str) -> Verdict:
        """Two different letters, or none, are undecided; a letter that is no option is wrong."""
        letters = self.letters(plain(answer))
        if len(letters) > 1:
            return Verdict(UNDECIDED, f"two-letters: {', '.join(letters)}")
        if not letters:
            return Verdict(UNDECIDED, "no-letter: it is none of the options' texts either")
        (letter,) = letters
        if letter not in self.options:
            return Verdict(WRONG, f"no-option: {letter}")
        return Verdict(RIGHT if letter == gold else WRONG, "letter")

    @staticmethod
    def ballot(answer: str) -> Hashable:
        """A letter in either case; other texts by their words."""
        return _folded(answer)

    def letters(self, answer: str) -> list[str]:
        """The options that ``answer`` names, each once: by letter, and by whole text."""
        if len(one := answer.strip(" ().*[]{}:")) == 1 and one.upper() in ascii_uppercase:
            return [one.upper()]  # a letter by itself is the letter, even if an option's text is one
        named, by_text = [], self._with_text(answer)
        head = answer[:_HEAD]
        if (match := _LETTER.match(head)) and (match[1] not in "AI" or _ON.match(head, match.end())):
            named, at = [match[1]], match.end()
            while further := _FURTHER.match(head, at):
                named.append(further[1])
                at = further.end()
            if len(named) == 1:  # B) and a text
                by_text = by_text or self._with_text(answer[match.end() :].lstrip(_BETWEEN))
        elif match := _AT_END.search(answer[-_HEAD:]):
            named = [match[1]]
            by_text = by_text or self._with_text(answer[: answer.rindex("(")])
        return list(dict.fromkeys([*named, *by_text]))

    def _with_text(self, text: str) -> list[str]:
        folded = _folded(text)
        return [letter for letter, option in self.options.items() if folded and _folded(plain(option)) == folded]


def _folded(text: str) -> str:
    """Its characters, whatever their case, form and blanks, without a mark at the end."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".,;:")
