"""A key that is the same for answers that are mathematically equal: for counting votes."""

from __future__ import annotations

from functools import lru_cache

from nemo_cot.grading.answers.expression import Node, number, symbols
from nemo_cot.grading.answers.intervals import normal_form
from nemo_cot.grading.answers.kinds import (
    Answer,
    Choice,
    Doubted,
    Interval,
    Items,
    Matrix,
    Named,
    Numeral,
    RealSet,
    Scalar,
    Words,
)
from nemo_cot.grading.answers.latex_text import squeeze
from nemo_cot.grading.answers.reading import read
from nemo_cot.grading.answers.scalars import sample_points
from nemo_cot.grading.answers.tokens import MAX_CHARACTERS, Unreadable
from nemo_cot.grading.answers.values import Numeric, exact_value, start_budget

_DIGITS = 60
_KEPT = 40
"""Digits of a value in its key: two different short expressions do not agree in so many."""


@lru_cache(maxsize=20_000)
def canonical_key(text: str) -> str:
    """Key of an answer by its likelier reading; texts that cannot be read are equal as text only.

    Names before an equals sign and units are not part of it. Bounded in time for any text.
    """
    if len(text) > MAX_CHARACTERS:
        return "text:" + text
    start_budget()
    try:
        return _key(read(text)[0])
    except (Unreadable, RecursionError, MemoryError):
        return "text:" + squeeze(text).lower()


def _key(answer: Answer) -> str:
    if isinstance(answer, Scalar):
        scale = answer.unit.scale if answer.unit else 1
        return _value_key(answer.node if scale == 1 else Node("mul", (answer.node, number(scale))))
    if isinstance(answer, Named):
        return _key(answer.value) if answer.left_node is None or answer.left_node.op == "sym" else (
            f"{answer.left}={_key(answer.value)}")  # fmt: skip
    if isinstance(answer, Items):
        ordered = answer.kind == "tuple"
        keys = [_key(i) for i in answer.items]
        return f"{'tuple' if ordered else 'items'}({';'.join(keys if ordered else sorted(keys))})"
    if isinstance(answer, RealSet):
        return "set(" + ";".join(_interval_key(i) for i in normal_form(answer.intervals)) + ")"
    if isinstance(answer, Matrix):
        return "matrix(" + "/".join(";".join(_value_key(c) for c in row) for row in answer.rows) + ")"
    if isinstance(answer, Numeral):
        return f"numeral({answer.digits}_{answer.base})"
    if isinstance(answer, Choice):
        return f"choice({answer.letter})"
    if isinstance(answer, Words):
        return "words:" + answer.text.lower()
    if isinstance(answer, Doubted):
        return _key(answer.value)
    raise Unreadable(f"no-key: {type(answer).__name__}")


def _interval_key(interval: Interval) -> str:
    ends = [repr(n.args) if "oo" in repr(n) else _value_key(n) for n in (interval.low, interval.high)]
    return f"{'(' if interval.low_open else '['}{ends[0]},{ends[1]}{')' if interval.high_open else ']'}"


def _value_key(node: Node) -> str:
    """An exact fraction, or 40 digits of the value, at fixed points where there are variables."""
    exact = exact_value(node)
    if exact is not None:
        return str(exact)
    names = sorted(symbols(node))
    keys = []
    for values in sample_points(names)[:2] if names else [{}]:
        numeric = Numeric(_DIGITS, values, None)
        value = numeric.value(node)
        if abs(value) < numeric.context.ldexp(1, numeric.high) * numeric.context.mpf(10) ** -_KEPT:
            return "0"
        keys.append(numeric.context.nstr(value, _KEPT))
    return ",".join(names) + ":" + "|".join(keys)
