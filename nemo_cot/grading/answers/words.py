"""Words around and instead of formulas: what they say, and which of them are prose."""

from __future__ import annotations

import re

from nemo_cot.grading.answers.expression import number
from nemo_cot.grading.answers.intervals import INFINITY, WHOLE_LINE
from nemo_cot.grading.answers.kinds import Answer, RealSet, Scalar, Words
from nemo_cot.grading.answers.token_lists import Tokens, plain

_LEADING = frozenset([
    "the", "final", "answer", "is", "result", "value", "of", "approximately", "about", "exactly",
    "equals", "therefore", "thus", "so", "hence", "we", "get", "have", "it", "total", "a", "an",
    "required", "solution", "solutions", "are", "answers", "option", "choice",
])  # fmt: skip
_EMPTY = frozenset([
    "no solution", "no solutions", "none", "does not exist", "dne", "no real solution",
    "no real solutions", "empty set", "the empty set", "no such",
])  # fmt: skip
_ALL_REALS = frozenset([
    "all real numbers", "all reals", "all real", "real numbers", "the real numbers",
])  # fmt: skip
_LOGIC = frozenset([
    "if", "for", "all", "is", "are", "any", "such", "that", "where", "when", "with", "iff", "only",
    "prime", "primes", "integer", "integers", "positive", "negative", "number", "numbers", "every",
    "each", "not", "works", "then", "satisfying", "form", "of",
])  # fmt: skip
_NUMBER_WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15,
    "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
}  # fmt: skip


def without_leading_words(tokens: Tokens) -> Tokens:
    """Drop "the answer is" and its like before the first formula, and a full stop's leftovers."""
    start = 0
    while start < len(tokens) and (
        (tokens[start].kind == "text" and _all_words(tokens[start].value, _LEADING))
        or (start and tokens[start].kind == "op" and tokens[start].value in ":≈=")
    ):
        start += 1
    if start < len(tokens) and tokens[0].kind == "op" and tokens[0].value in "≈=":
        return tokens[1:]
    return tokens[start:] if start < len(tokens) else tokens


def _all_words(text: str, words: frozenset[str]) -> bool:
    found = re.findall(r"[a-z]+", text.lower())
    return bool(found) and all(w in words for w in found)


def is_prose(tokens: Tokens) -> bool:
    """Whether a word says something about the formulas (for all, such that): more than a unit or a name."""
    words = (w for t in tokens if t.kind == "text" for w in re.findall(r"[a-z]+", t.value.lower()))
    return any(w in _LOGIC for w in words)


def special_words(tokens: Tokens) -> Answer | None:
    """The empty set, all reals, a number in words, or other words without any formula."""
    if len(tokens) == 1 and tokens[0].kind == "command" and tokens[0].value in ("emptyset", "varnothing"):
        return RealSet(())
    if not all(t.kind in ("text", "name", "constant") or t.value in "'-&" for t in tokens):
        return None
    if not any(t.kind == "text" for t in tokens):
        return None
    if all(len(t.value) <= 2 and t.value.lower() not in ("no",) for t in tokens if t.kind == "text"):
        return None
    said = plain(tokens).lower()
    if said in _EMPTY:
        return RealSet(())
    if said in _ALL_REALS:
        return RealSet((WHOLE_LINE,))
    if said == "infinity":
        return Scalar(INFINITY)
    if said in _NUMBER_WORDS:
        return Scalar(number(_NUMBER_WORDS[said]))
    words = said.split()
    return Words(said, "label" if len(words) <= 2 else "prose")
