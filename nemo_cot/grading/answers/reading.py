# ruff: noqa: RUF001  (the signs of mathematics are meant as they stand)
r"""Read a text as an answer: which kind it is, and its parts.

One text can have several readings: (1,2) is a point and an open interval, 1,234 is a number and
a list. The first reading is the likelier one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from nemo_cot.grading.answers.brackets import read_brackets, read_set_algebra
from nemo_cot.grading.answers.comparison import compare
from nemo_cot.grading.answers.expression import number, parse_expression
from nemo_cot.grading.answers.families import read_family
from nemo_cot.grading.answers.intervals import intersection
from nemo_cot.grading.answers.kinds import (
    Answer,
    Choice,
    Interval,
    Items,
    Named,
    RealSet,
    Scalar,
    Unread,
    Words,
)
from nemo_cot.grading.answers.latex_text import clean
from nemo_cot.grading.answers.relations import read_relation
from nemo_cot.grading.answers.simple_answers import (
    cut_unit,
    read_compound,
    read_matrix,
    read_ratio,
    read_scalar,
)
from nemo_cot.grading.answers.token_lists import (
    Tokens,
    expand,
    has_plus_minus,
    one_pair,
    plain,
    split,
    thousands_value,
    without_group,
)
from nemo_cot.grading.answers.tokens import Unreadable, tokenize
from nemo_cot.grading.answers.values import exact_value
from nemo_cot.grading.answers.words import is_prose, special_words, without_leading_words, without_remarks

_CACHED_CHARACTERS = 300
"""Longer texts are not kept: the cache must stay small whatever is graded."""

_WRAPPER = re.compile(r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mbox|boxed)\s*(?=\{)|[{}\\]")
_CHOICE = re.compile(
    r"(?:(?:the\s+)?(?:(?:final|correct)\s+)?(?:option|choice|answer)\b\s*(?:is\b)?\s*:?\s*)?"
    r"(\(?)\s*([A-J])\s*(?:([).:])\s*(.*)|$)",
    re.DOTALL | re.IGNORECASE,
)
_FOR_SYMPY = re.compile(
    r"(?:\\(?:sum|prod|i{0,2}int|lim|infty|[dt]?frac|sqrt|d?binom|pi|[lc]?dots?|cdot|times|div|to|ln|log|exp|(?:arc)?(?:sin|cos|tan)"
    r"|left|right|begin|end|mathbb|setminus|cup|cap|in|leq?|geq?|neq?|lt|gt|min|max|gcd|[lr]vert|[lr]angle|[{},;:! \\|])(?![a-zA-Z])|[^\\'%°#])+"
)
"""What math-verify is asked about: it drops primes, words and marks that change the value."""

_OTHER_LETTER = re.compile(r"(?:^|[\s,;(&])[A-J]\s*(?:[):.]|$)")


def read(text: str) -> tuple[Answer, ...]:
    """The readings of ``text``, at least one. Never raises for any text."""
    return _read_cached(text) if len(text) <= _CACHED_CHARACTERS else _read(text)


def _read(text: str) -> tuple[Answer, ...]:
    try:
        tokens = tokenize(text)
        return _readings(tokens) if tokens else (Words("", "label"),)
    except Unreadable as problem:
        return (_unread(text, problem),)
    except (RecursionError, MemoryError):
        return (Unread("", "too-deep"),)


_read_cached = lru_cache(maxsize=4096)(_read)


def _unread(text: str, problem: Unreadable) -> Unread:
    latex = clean(text) if problem.reason.startswith("unsupported") else ""  # the rest nobody can read
    return Unread(latex if _FOR_SYMPY.fullmatch(latex) else "", problem.reason, problem.malformed)


def _readings(tokens: Tokens) -> tuple[Answer, ...]:
    if any(t.kind == "op" and t.value == "…" for t in tokens):
        return (_progression(tokens) or Words(plain(tokens), "ellipsis"),)
    tokens = without_remarks(without_leading_words(without_group(tokens)))
    if not tokens:
        return (Words("", "prose"),)
    found = special_words(tokens) or read_family(tokens, _one) or read_compound(tokens)
    if found is not None:
        return (found,)
    body, unit = cut_unit(tokens)
    cases = any(t.value == "cases" for t in tokens)
    if not cases and is_prose(body if unit and unit.dimension is not None else tokens):
        return (Words(plain(tokens), "prose"),)
    thousands = thousands_value(body)
    if thousands is not None:
        listed = Items(tuple(Scalar(number(int(t.value)), unit) for t in body if t.kind == "number"), "list")
        scalar = Scalar(number(thousands), unit)
        # Four groups and more are a list: nobody writes 98,118,122,142 for a hundred billion
        return (listed, scalar) if len(listed.items) > 3 else (scalar, listed)
    parts = split(tokens)
    braced = tokens[0].value == "⦃" and one_pair(tokens)
    if len(parts) > 1 or (has_plus_minus(tokens) and not braced):
        return (_list_of(parts, "list", tokens),)
    return _one(tokens)


def _one(tokens: Tokens) -> tuple[Answer, ...]:
    """Readings of an answer without a separator at the top. Raises Unreadable."""
    if not tokens:
        raise Unreadable("syntax: nothing between two marks")
    point = len(tokens) > 5 and tokens[0].kind == "name" and tokens[0].value in "ABDEFGHKLMNPQRSTUVW"
    if point and tokens[1].value == "(" and one_pair(tokens[1:]) and len(split(tokens[2:-1])) > 1:
        tokens = tokens[1:]  # A(1, 2)
    words = special_words(tokens)
    return (
        ((words,) if isinstance(words, Scalar) else ())
        or read_set_algebra(tokens, _one)
        or read_relation(tokens, _one)
        or read_ratio(tokens)
        or read_brackets(tokens, _list_of)
        or read_matrix(tokens, _list_of)
        or read_scalar(tokens)
    )


def _progression(tokens: Tokens) -> Items | None:
    """0, 3, 6, ..., 60 with two terms or more before the dots: first, step and last."""
    if tokens[0].value == "⦃" and one_pair(tokens):
        tokens = tokens[1:-1]
    parts = split(tokens)
    place = next((i for i, p in enumerate(parts) if [t.value for t in p] == ["…"]), len(parts))
    try:
        values = [None if i == place else exact_value(parse_expression(p).node) for i, p in enumerate(parts)]
    except Unreadable:
        return None
    terms, last = values[:place], values[place + 1 :]
    if len(terms) < 2 or None in terms or None in last or len(last) > 1:
        return None
    step = terms[1] - terms[0]
    if not step or any(b - a != step for a, b in pairwise(terms)):
        return None
    if last and ((last[0] - terms[0]) / step).denominator != 1:
        return None
    return Items(tuple(Scalar(number(v)) for v in (terms[0], step, *last)), "progression")


# Lists


def _list_of(parts: Sequence[Tokens], kind: str, whole: Tokens) -> Answer:
    """Items out of parts, plus-minus expanded. Prose in any part makes the whole prose."""
    if kind == "family":
        family = read_family(parts[0], _one)
        if family is None:
            raise Unreadable("syntax: the condition of a set")
        return family
    items: list[Answer] = []
    for part in parts:
        for expanded in expand(part):
            items.append(_one(expanded)[0])
    if any(isinstance(i, Words) for i in items):
        return Words(plain(whole), "prose")
    bad = next((i for i in items if isinstance(i, Unread)), None)
    if bad is not None:
        return Unread("", bad.reason, bad.malformed)
    either = any(t.value.lower() in ("or", "∨") for t in whole)
    if kind == "list" and either and any(isinstance(i, RealSet) for i in items):
        items = [_point(i) for i in items]  # 0 < x < 1 or x = 3
    if kind == "list" and items and all(isinstance(i, RealSet) for i in items):
        return _joined(items, either=either, also=any(t.value.lower() in ("and", "∧") for t in whole))
    if kind == "list" and any(isinstance(i, RealSet) for i in items) and len(items) > 1:
        raise Unreadable("open: sets and values side by side")
    same = kind == "list" and either and all(compare(items[0], i).equal for i in items[1:])
    if kind == "list" and (len(items) == 1 or same):  # 3/4 or 0.75
        return items[0]
    if kind != "tuple":
        items = _grouped(_with_common_name(items), either=either)
    return Items(tuple(items), "set" if either and kind == "list" else kind)


def _point(item: Answer) -> Answer:
    if isinstance(item, Named) and isinstance(item.value, Scalar):
        return RealSet((Interval(item.value.node, item.value.node, False, False),), item.left)
    return item


def _grouped(items: list[Answer], *, either: bool) -> list[Answer]:
    """x = 1, y = 2 or x = 3, y = 4 as two points."""
    names = [i.left if isinstance(i, Named) else "" for i in items]
    width = len(set(names))
    if ("" in names and width > 2) or (either and width == len(names) > 1):
        raise Unreadable("open: which values belong to which names")
    if width in (1, len(names)) or "" in names:
        return items
    groups = [items[i : i + width] for i in range(0, len(items), width)]
    if any(len({i.left for i in g}) != width for g in groups) or len(groups[-1]) != width:
        raise Unreadable("syntax: named values in groups that differ")
    ordered = [sorted(g, key=lambda i: i.left) for g in groups]
    return [
        Named(f"({','.join(i.left for i in g)})", Items(tuple(i.value for i in g), "tuple")) for g in ordered
    ]


def _with_common_name(items: list[Answer]) -> list[Answer]:
    """x = 1, 2 names both: the name of the first is dropped when the others have none."""
    if isinstance(items[0], Named) and not any(isinstance(i, Named) for i in items[1:]):
        return [items[0].value, *items[1:]]
    return items


def _joined(sets: list[RealSet], *, either: bool, also: bool) -> RealSet:
    """One set out of several conditions: both hold, unless the text says "or" or nothing is in both."""
    names = {s.variable for s in sets if s.variable}
    if len(names) > 1:
        raise Unreadable("unsupported: inequalities in several variables")
    both = sets[0].intervals
    for other in sets[1:]:
        both = tuple(intersection(both, other.intervals))
    if also and not either and not both:
        raise Unreadable("open: conditions that exclude each other")
    union = tuple(i for s in sets for i in s.intervals)
    return RealSet(union if either or not both else both, next(iter(names), ""))


def read_choice(text: str) -> Choice | None:
    """``text`` as a letter of a multiple choice: C, (C), \\text{C}, C) 12, Option C. None for other text."""
    if len(text) > 200:
        return None
    match = _CHOICE.fullmatch(_WRAPPER.sub(" ", clean(text)).strip())
    rest = (match.group(4) or "").strip() if match else ""
    if not match or _OTHER_LETTER.search(rest):
        return None
    return Choice(match.group(2).upper(), read(rest)[0] if rest else None)
