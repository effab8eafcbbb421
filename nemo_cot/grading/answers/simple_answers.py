"""Read answers without parts of their own: numbers and expressions with units, numerals, matrices."""

from __future__ import annotations

import re

from nemo_cot.grading.answers.kinds import Answer, Matrix, Numeral, Scalar, Words
from nemo_cot.grading.answers.expression import Node, parse_expression
from nemo_cot.grading.answers.token_lists import Tokens, cut_at, plain
from nemo_cot.grading.answers.tokens import Token, Unreadable


def read_matrix(tokens: Tokens) -> tuple[Answer, ...]:
    """A pmatrix or bmatrix, with a factor before it."""
    begin = next((i for i, t in enumerate(tokens) if t.kind == "command" and t.value == "begin"), None)
    if begin is None:
        return ()
    name = tokens[begin + 2].value if len(tokens) > begin + 3 else ""
    body = tokens[begin + 4 : -4]
    if name not in ("pmatrix", "bmatrix", "matrix", "smallmatrix") or tokens[-4].value != "end":
        raise Unreadable(f"unsupported: environment {name}")
    rows = [[parse_expression(c).node for c in cut_at(r, "&")] for r in cut_at(body, "\\\\")]
    if not rows or len({len(r) for r in rows}) != 1:
        raise Unreadable("syntax: rows of different length")
    if begin:
        factor = parse_expression((*tokens[:begin], Token("number", "1"))).node  # for a lone minus sign
        rows = [[Node("mul", (factor, c)) for c in r] for r in rows]
    return (Matrix(tuple(tuple(r) for r in rows)),)


def read_scalar(tokens: Tokens) -> Answer:
    """An expression with a unit, a numeral with a base; words where there is no expression."""
    numeral = _numeral(tokens)
    if numeral is not None:
        return numeral
    body, unit = cut_unit(tokens)
    if not body or any(t.kind == "text" for t in body):
        return Words(plain(tokens), "label" if len(tokens) <= 2 and not body else "prose")
    parsed = parse_expression(body)
    node = parsed.node
    if unit.rstrip("s") in ("percent", "degree", "deg"):
        node, unit = Node("pct" if unit.startswith("p") else "deg", (node,)), ""
    return Scalar(node, unit, parsed.others)


_NO_UNITS = frozenset([
    "hundred", "thousand", "million", "billion", "trillion", "dozen", "half", "halves", "third", "thirds",
    "quarter", "quarters", "squared", "cubed", "factorial", "plus", "minus", "times", "base", "mod",
    "more", "less", "least", "most", "at", "wrong", "false", "incorrect", "impossible", "no", "not", "never",
    "root",
])  # fmt: skip
"""Words behind a number that are no unit: they scale it, bound it, or take it back."""


def cut_unit(tokens: Tokens) -> tuple[Tokens, str]:
    """Trailing words, with a power behind them, as the unit: ``864 \\mbox{ inches}^2``."""
    if tokens[0] == Token("text", "dollars", tokens[0].spaced):  # \\$36
        tokens = (*tokens[1:], tokens[0])
    end, power = len(tokens), ""
    values = [t.value for t in tokens]
    if len(tokens) > 2 and tokens[-3].kind == "text" and values[-2] == "^" and values[-1].isdigit():
        end, power = end - 2, f" ^{values[-1]}"
    elif (
        len(tokens) > 4 and tokens[-5].kind == "text" and values[-4:-2] == ["^", "{"] and values[-2].isdigit()
    ):
        end, power = end - 4, f" ^{values[-2]}"
    start = end
    while start > 0 and tokens[start - 1].kind == "text":
        start -= 1
    if start == end or (start == 0 and not power):
        return tokens, ""
    unit = " ".join(" ".join(t.value for t in tokens[start:end]).replace("^", " ^").lower().split())
    if _NO_UNITS & set(re.findall("[a-z]+", unit)):
        raise Unreadable(f"words: {unit!r} behind a number changes what it says")
    return tokens[:start], unit + power


def _numeral(tokens: Tokens) -> Numeral | None:
    """52_8, 52_{8}."""
    values = [t.value for t in tokens if not (t.kind == "op" and t.value in "{}")]
    if len(values) != 3 or values[1] != "_" or not (values[0].isdigit() and values[2].isdigit()):
        return None
    base = int(values[2]) if len(values[2]) < 3 else 0
    if not 2 <= base <= 36 or any(int(d) >= base for d in values[0]):
        return None
    return Numeral(values[0].lstrip("0") or "0", base)
