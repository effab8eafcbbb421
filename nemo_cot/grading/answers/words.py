"""Words around and instead of formulas: what they say, and which of them are prose."""

from __future__ import annotations

import re
from fractions import Fraction

from nemo_cot.grading.answers.expression import number
from nemo_cot.grading.answers.intervals import INFINITY, WHOLE_LINE
from nemo_cot.grading.answers.kinds import Answer, RealSet, Scalar, Words
from nemo_cot.grading.answers.tables import word_set
from nemo_cot.grading.answers.token_lists import Tokens, plain
from nemo_cot.grading.answers.units import SCALES, read_unit

_LEADING = word_set(
    "the final answer is result value of approximately about exactly equals therefore thus so hence we get have it total "
    "a an required solution solutions are answers option choice"
)
_EMPTY = frozenset([
    "no solution", "no solutions", "none", "does not exist", "dne", "no real solution", "no real solutions",
    "empty set", "the empty set", "no such",
])  # fmt: skip
_ALL_REALS = frozenset(["all real numbers", "all reals", "all real", "real numbers", "the real numbers"])
_LOGIC = word_set(
    "if for all is are any such that where when with iff only prime primes integer integers positive negative number "
    "numbers every each not works then satisfying form of"
)
_QUANTIFIERS = word_set("for all every any each real number numbers value values of in mathbb R { } ∈ ∀ , )")


def _numbered(text: str, start: int, step: int) -> dict[str, int]:
    return {word: start + step * place for place, word in enumerate(text.split())}


_NUMBERS = {
    **_numbered(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen", 0, 1
    ),
    **_numbered("sixteen seventeen eighteen nineteen", 16, 1),
    **_numbered("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10),
}


def number_in_words(words: list[str]) -> Fraction | None:
    """negative twenty-one, two hundred and five, three quarters, two and a half; None for other words."""
    words = [part for word in words for part in word.lower().split("-") if part]
    if words[:1] in (["negative"], ["minus"]):
        value = number_in_words(words[1:])
        return None if value is None else -value
    part = words and SCALES.get(words[-1].removesuffix("s") if words[-1] != "halves" else "half")
    if part and part < 1:
        place = max((i for i, w in enumerate(words) if w == "and"), default=0)
        whole = _whole_number(words[:place]) if place else 0
        count = _whole_number(
            words[place + (place > 0) : -1] or (["a"] if part in (Fraction(1, 2), Fraction(1, 4)) else [])
        )
        return None if whole is None or count is None else whole + count * part
    value = None if words in (["a"], ["an"]) else _whole_number(words)
    return None if value is None else Fraction(value)


def _whole_number(words: list[str]) -> int | None:
    total, current, limit = 0, None, 10**15
    for word in words:
        if word in ("a", "an") and current is None and not total:
            current = 1
        elif word in _NUMBERS:
            value = _NUMBERS[word]
            if current and (
                current % 100 if value >= 10 else current % 10 or current % 100 == 10 or not value
            ):
                return None
            current = (current or 0) + value
        elif word == "hundred" and current and current < 100:
            current *= 100
        elif word in SCALES and current and word != "hundred" and 1 < SCALES[word] < limit:
            total, current, limit = total + current * int(SCALES[word]), None, SCALES[word]
        elif word != "and" or not (current or total):
            return None
    return total + (current or 0) if words else None


def without_remarks(tokens: Tokens) -> Tokens:
    """Without a reason or a "for all real x" behind it: what they say does not change the answer."""
    for place, token in enumerate(tokens):
        if not place:
            continue
        rest = [t for t in tokens[place:] if t.kind != "name" or t.value in "RZNQC"]
        starts = token.value in ("for", "∀") or (
            token.value == "," and [t.value for t in tokens[place + 2 : place + 5]] == ["∈", "mathbb", "{"]
        )
        reason = token.kind == "text" and token.value.lower() in ("since", "because")
        if reason or (starts and all(t.value in _QUANTIFIERS for t in rest)):
            end = place
            while end and tokens[end - 1].value in (",", "(", ";"):
                end -= 1
            return tokens[:end] or tokens
    return tokens


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
    words = said.split()
    for end in range(len(words), 0, -1):
        value = number_in_words(words[:end])
        if value is not None:
            return Scalar(number(value), read_unit(tuple(words[end:])) if words[end:] else None)
    return Words(said, "label" if len(words) <= 2 else "prose")
