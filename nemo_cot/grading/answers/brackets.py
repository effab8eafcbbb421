# ruff: noqa: RUF001, RUF002  (the signs of mathematics are meant as they stand)
"""Read what stands in brackets: tuples, sets, intervals and their unions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from nemo_cot.grading.answers.expression import Node, parse_expression, symbols
from nemo_cot.grading.answers.intervals import WHOLE_LINE, difference, intersection, is_infinite, real_order
from nemo_cot.grading.answers.kinds import Answer, Interval, Items, RealSet, Scalar
from nemo_cot.grading.answers.token_lists import Tokens, cut_at, one_pair, plain, split
from nemo_cot.grading.answers.tokens import Token, Unreadable

Reader = Callable[[Tokens], tuple[Answer, ...]]
ListReader = Callable[[Sequence[Tokens], str, Tokens], Answer]


def read_brackets(tokens: Tokens, list_of: ListReader) -> tuple[Answer, ...]:
    """(a, b), [a, b), {a, b}, ⟨a, b⟩ when one pair of brackets holds it all."""
    opener, closer = tokens[0].value, tokens[-1].value
    if tokens[0].kind != "op" or tokens[-1].kind != "op" or opener not in "([⦃⟨" or closer not in ")]⦄⟩":
        return ()
    if not one_pair(tokens):
        return ()
    inner = tokens[1:-1]
    parts = split(inner)
    if opener == "⦃" and closer == "⦄":
        place = next((i for i, t in enumerate(inner) if t.kind == "op" and t.value in "|:"), 0)
        if place:
            return (_set_builder(inner[:place], inner[place + 1 :], list_of, tokens),)
        return (list_of(parts, "set", tokens) if parts else RealSet(()),)
    if len(parts) == 1 and (opener, closer) == ("(", ")") and inner[0].value in "([⦃⟨" and one_pair(inner):
        return (list_of(parts, "list", tokens),)  # ((1, 2))
    if len(parts) < 2 or "⦃" in (opener, closer) or "⦄" in (opener, closer):
        return ()
    readings: list[Answer] = []
    if (opener, closer) in (("(", ")"), ("⟨", "⟩")) or (len(parts) > 2 and (opener, closer) == ("[", "]")):
        readings.append(list_of(parts, "tuple", tokens))
    if len(parts) == 2 and opener in "([" and closer in ")]":
        interval = _interval(parts, opener == "(", closer == ")")
        if interval is not None:
            readings.append(RealSet((interval,)))
    if readings and _has_infinity(parts):
        readings = [r for r in readings if isinstance(r, RealSet)]
    if not readings and len(parts) == 2:
        raise Unreadable("malformed: an interval whose ends are in the wrong order")
    return tuple(readings)


def _set_builder(left: Tokens, right: Tokens, list_of: ListReader, whole: Tokens) -> Answer:
    r"""{x : x > 1}, {x ∈ R | x ≠ 3}; {nπ : n ∈ Z} is the family behind its formula."""
    named = left[0].kind == "name" and (len(left) == 1 or (left[1].value == "∈" and _is_reals(left[2:])))
    if not named and "∈" in [t.value for t in left]:
        raise Unreadable("syntax: a set of some numbers")
    found = (
        list_of(split(right), "list", right)
        if named
        else list_of([(*left, Token("op", ","), *right)], "family", whole)
    )
    if not named or isinstance(found, RealSet):
        return found
    raise Unreadable("syntax: the condition of a set")


def _has_infinity(parts: Sequence[Tokens]) -> bool:
    return any(t.kind == "constant" and t.value == "oo" for p in parts for t in p)


def _interval(parts: Sequence[Tokens], low_open: bool, high_open: bool) -> Interval | None:
    try:
        low, high = (parse_expression(p).node for p in parts)
    except Unreadable:
        return None
    if symbols(low) or symbols(high) or _holds_nothing(low, high, low_open or high_open):
        return None
    return Interval(low, high, low_open or is_infinite(low), high_open or is_infinite(high))


def _holds_nothing(low: Node, high: Node, is_open: bool) -> bool:
    """(5, 2) and (2, 2) are points, not empty intervals, which would all be equal."""
    try:
        order = real_order(low, high)
    except Unreadable:
        return False
    return order > 0 or (order == 0 and is_open)


def read_set_algebra(tokens: Tokens, one: Reader) -> tuple[Answer, ...]:
    """A ∪ B, R, R without some points, x in A."""
    member = cut_at(tokens, "∈")
    if len(member) == 2 and len(member[0]) <= 4:
        inner = one(member[1])
        sets = [s for s in inner if isinstance(s, RealSet)]
        if not sets and not isinstance(inner[0], Items):
            raise Unreadable("syntax: an element of no set")
        return (RealSet(sets[0].intervals, plain(member[0])),) if sets else inner
    for sign, rule in (("∪", None), ("∩", intersection), ("∖", difference)):
        parts = cut_at(tokens, sign)
        if len(parts) > 1:
            sets = [_intervals(part, one) for part in parts]
            return (RealSet(tuple(reduce(rule, sets) if rule else (i for s in sets for i in s))),)
    return (RealSet((WHOLE_LINE,)),) if _is_reals(tokens) else ()


def _is_reals(tokens: Tokens) -> bool:
    return [t.value for t in tokens] == ["mathbb", "{", "R", "}"]


def _intervals(part: Tokens, one: Reader) -> Sequence[Interval]:
    """A part of a union as a set of reals: points are intervals too."""
    found = one(part)
    piece = next((f for f in found if isinstance(f, RealSet)), found[0])
    if isinstance(piece, RealSet):
        return piece.intervals
    if isinstance(piece, Items) and piece.kind == "set" and all(isinstance(i, Scalar) for i in piece.items):
        return [Interval(i.node, i.node, False, False) for i in piece.items]
    raise Unreadable("unsupported: sets that are no intervals")
