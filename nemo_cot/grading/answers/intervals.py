"""Real sets as unions of intervals: sorted, merged, intersected, compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cmp_to_key
from typing import Any

from nemo_cot.grading.answers.expression import Node
from nemo_cot.grading.answers.kinds import Interval
from nemo_cot.grading.answers.scalars import INFINITY, MINUS_INFINITY, compare_scalars
from nemo_cot.grading.answers.tokens import Unreadable
from nemo_cot.grading.answers.values import Numeric

WHOLE_LINE = Interval(MINUS_INFINITY, INFINITY, True, True)


def real_order(a: Node, b: Node) -> int:
    """-1, 0 or 1 as ``a`` is below, equal to or above ``b``. Raises Unreadable if that cannot be told."""
    if a == b:
        return 0
    if is_infinite(a) or is_infinite(b):
        left, right = _real(a), _real(b)
        return (left > right) - (left < right)
    finding = compare_scalars(a, b)
    if finding.equal is None:
        raise Unreadable(f"end-of-interval: {finding.reason}")
    return 0 if finding.equal else (1 if _real(a) > _real(b) else -1)


def normal_form(intervals: Sequence[Interval]) -> list[Interval]:
    """The same set as disjoint, sorted, non-empty intervals that do not touch."""
    kept = [i for i in intervals if not _is_empty(i)]
    kept.sort(key=cmp_to_key(lambda a, b: real_order(a.low, b.low) or a.low_open - b.low_open))
    merged: list[Interval] = []
    for interval in kept:
        if merged and _touch(merged[-1], interval):
            merged[-1] = _hull(merged[-1], interval)
        else:
            merged.append(interval)
    return merged


def intersection(a: Sequence[Interval], b: Sequence[Interval]) -> list[Interval]:
    """The points in both sets."""
    pieces = []
    for x in a:
        for y in b:
            order = real_order(x.low, y.low)
            low, low_open = (x.low, x.low_open) if order > 0 else (y.low, y.low_open)
            low_open = low_open or (order == 0 and x.low_open)
            order = real_order(x.high, y.high)
            high, high_open = (x.high, x.high_open) if order < 0 else (y.high, y.high_open)
            high_open = high_open or (order == 0 and x.high_open)
            pieces.append(Interval(low, high, low_open, high_open))
    return normal_form(pieces)


def same_set(a: Sequence[Interval], b: Sequence[Interval]) -> bool:
    """Whether both unions hold the same points. Raises Unreadable if an end cannot be compared."""
    left, right = normal_form(a), normal_form(b)
    return len(left) == len(right) and all(
        x.low_open == y.low_open
        and x.high_open == y.high_open
        and real_order(x.low, y.low) == 0
        and real_order(x.high, y.high) == 0
        for x, y in zip(left, right)
    )


def difference(a: Sequence[Interval], b: Sequence[Interval]) -> list[Interval]:
    """The points of ``a`` that are not in ``b``."""
    for hole in normal_form(b):
        below = Interval(MINUS_INFINITY, hole.low, True, not hole.low_open)
        above = Interval(hole.high, INFINITY, not hole.high_open, True)
        a = intersection(
            a, [side for side in (below, above) if not (is_infinite(side.low) and is_infinite(side.high))]
        )
    return list(a)


def is_infinite(node: Node) -> bool:
    """Whether ``node`` is an infinite end."""
    return node in (INFINITY, MINUS_INFINITY)


def _real(node: Node) -> Any:
    numeric = Numeric(40)
    if is_infinite(node):
        return numeric.context.inf if node == INFINITY else -numeric.context.inf
    value = numeric.value(node)
    if numeric.context.im(value) != 0:
        raise Unreadable("end-of-interval: not real")
    return numeric.context.re(value)


def _is_empty(interval: Interval) -> bool:
    order = real_order(interval.low, interval.high)
    return order > 0 or (order == 0 and (interval.low_open or interval.high_open))


def _touch(a: Interval, b: Interval) -> bool:
    """Whether ``b``, which starts later, continues ``a`` without a gap."""
    order = real_order(b.low, a.high)
    return order < 0 or (order == 0 and not (a.high_open and b.low_open))


def _hull(a: Interval, b: Interval) -> Interval:
    order = real_order(a.high, b.high)
    if order > 0:
        return a
    high_open = b.high_open if order < 0 else a.high_open and b.high_open
    return Interval(a.low, b.high, a.low_open, high_open)
