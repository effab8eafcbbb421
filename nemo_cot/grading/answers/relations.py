"""Read equations and inequalities."""

from __future__ import annotations

from collections.abc import Callable

from nemo_cot.grading.answers.kinds import Answer, Interval, Items, Named, RealSet, Scalar
from nemo_cot.grading.answers.expression import Node, parse_expression, symbols, walk
from nemo_cot.grading.answers.intervals import INFINITY, MINUS_INFINITY, is_infinite, line_without
from nemo_cot.grading.answers.scalars import compare_scalars
from nemo_cot.grading.answers.token_lists import Tokens, depth_change, expand, plain
from nemo_cot.grading.answers.tokens import Token, Unreadable

Reader = Callable[[Tokens], tuple[Answer, ...]]

_RELATIONS = "=<>≤≥≠≈"


def read_relation(tokens: Tokens, one: Reader) -> tuple[Answer, ...]:
    """Equations and inequalities."""
    sides, operators = _sides(tokens)
    if not operators:
        return ()
    if any(not s for s in sides):
        raise Unreadable("syntax: a relation without a side")
    if set(operators) <= {"=", "≈"}:
        return _equation(sides, operators, one)
    if operators == ["≠"]:
        if not _is_name(sides[0]):
            raise Unreadable("unsupported: inequation")
        return (RealSet(line_without([parse_expression(sides[1]).node]), plain(sides[0])),)
    return (_inequality(sides, operators),)


def _sides(tokens: Tokens) -> tuple[list[Tokens], list[str]]:
    sides: list[list[Token]] = [[]]
    operators: list[str] = []
    depth = 0
    for token in tokens:
        depth += depth_change(token)
        if depth == 0 and token.kind == "op" and token.value in _RELATIONS:
            sides.append([])
            operators.append(token.value)
        else:
            sides[-1].append(token)
    return [tuple(s) for s in sides], operators


def _equation(sides: list[Tokens], operators: list[str], one: Reader) -> tuple[Answer, ...]:
    """``x = 5``, ``y = 2x + 3``, ``1/3 ≈ 0.333``: the last exact side is the value."""
    exact = len(sides) if "≈" not in operators else max(1, operators.index("≈") + 1)
    if len(sides) == 2 and _is_constant(sides[0]) and not _is_constant(sides[1]):
        sides = sides[::-1]  # 5 = m + n
    constant = _is_constant(sides[0])
    if exact == 1 and not constant:
        exact = 2  # x ≈ 0.36: there is nothing else
    if not constant:
        left = sides[0]
        values = [one(s)[0] for s in expand(sides[exact - 1])] if exact > 1 else []
        value = values[0] if len(values) == 1 else Items(tuple(values), "list")
        _check_chain(sides[1:exact], value)
        return (Named(plain(left).replace(" ", ""), value, _node_or_none(left)),)
    readings = [one(s)[0] for s in sides[:exact]]
    if any(not isinstance(r, Scalar) for r in readings):
        return (readings[-1],)
    if any(compare_scalars(readings[0].node, r.node).equal is False for r in readings[1:]):
        raise Unreadable("malformed: the two sides of the equation differ")
    return (readings[-1],)


def _check_chain(sides: list[Tokens], value: Answer) -> None:
    """x = 4 = 5 says nothing. Raises Unreadable when two constant sides differ."""
    constants = [node for s in sides[:-1] if (node := _node_or_none(s)) is not None and not symbols(node)]
    if isinstance(value, Scalar) and any(compare_scalars(value.node, n).equal is False for n in constants):
        raise Unreadable("malformed: the sides of the equation differ")


def _is_constant(tokens: Tokens) -> bool:
    """Whether a side names nothing: no variable, no command like an angle, no word."""
    node = _node_or_none(tokens)
    if node is None:
        return False
    return not symbols(node) and not any(n.op == "call" for n in walk(node)) and node.op != "const"


def _node_or_none(tokens: Tokens) -> Node | None:
    try:
        return parse_expression(tokens).node
    except Unreadable:
        return None


def _is_name(tokens: Tokens) -> bool:
    node = _node_or_none(tokens)
    return node is not None and node.op == "sym"


def _inequality(sides: list[Tokens], operators: list[str]) -> RealSet:
    """``x > 1``, ``1 < x \\le 2`` with the variable alone on its side."""
    if set(operators) <= {">", "≥"}:
        sides, operators = sides[::-1], [{">": "<", "≥": "≤"}[o] for o in operators[::-1]]
    if not set(operators) <= {"<", "≤"} or len(sides) > 3:
        raise Unreadable("unsupported: chain of inequalities")
    names = [i for i, s in enumerate(sides) if _is_name(s)]
    if len(names) != 1 or (len(sides) == 3 and names != [1]):
        raise Unreadable("unsupported: inequality that is not solved for a variable")
    place = names[0]
    low, low_open = (sides[place - 1], operators[place - 1] == "<") if place else (None, True)
    high, high_open = (sides[place + 1], operators[place] == "<") if place + 1 < len(sides) else (None, True)
    ends = [
        d if s is None else parse_expression(s).node for s, d in ((low, MINUS_INFINITY), (high, INFINITY))
    ]
    if any(symbols(e) for e in ends):
        raise Unreadable("unsupported: inequality between variables")
    interval = Interval(ends[0], ends[1], low_open or is_infinite(ends[0]), high_open or is_infinite(ends[1]))
    return RealSet((interval,), plain(sides[place]))
