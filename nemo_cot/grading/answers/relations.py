"""Read equations and inequalities."""

from __future__ import annotations

from collections.abc import Callable

from nemo_cot.grading.answers.expression import Node, number, parse_expression, substitute, symbols, walk
from nemo_cot.grading.answers.intervals import (
    INFINITY,
    MINUS_INFINITY,
    WHOLE_LINE,
    difference,
    is_infinite,
    real_order,
)
from nemo_cot.grading.answers.kinds import Answer, Doubted, Interval, Items, Named, RealSet, Scalar
from nemo_cot.grading.answers.scalars import compare_scalars
from nemo_cot.grading.answers.simple_answers import cut_unit
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
            raise Unreadable("syntax: inequation")
        point = parse_expression(sides[1]).node
        return (
            RealSet(tuple(difference([WHOLE_LINE], [Interval(point, point, False, False)])), plain(sides[0])),
        )
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
    if len(sides) == 2 and _is_constant(sides[0]) and not _is_constant(cut_unit(sides[1])[0]):
        sides = sides[::-1]  # 5 = m + n; but 6 = 9 apples claims its last side
    constant = _is_constant(sides[0])
    if exact == 1 and not constant:
        exact = 2  # x ≈ 0.36: there is nothing else
    if not constant:
        left = sides[0]
        values = [one(s)[0] for s in expand(sides[exact - 1])] if exact > 1 else []
        value = values[0] if len(values) == 1 else Items(tuple(values), "list")
        named = Named(plain(left).replace(" ", ""), value, _node_or_none(left))
        constants = [n for s in sides[1:exact] if (n := _node_or_none(s)) is not None and not symbols(n)]
        return (_doubted(named, constants),)
    readings = [one(s)[0] for s in sides[:exact]]
    if any(not isinstance(r, Scalar) for r in readings):
        return (readings[-1],)
    return (_doubted(readings[-1], [r.node for r in readings]),)


def _doubted(value: Answer, chain: list[Node]) -> Answer:
    """6 - 7 - 6 = 2 claims its last side, but its sides differ."""
    if len(chain) > 1 and any(compare_scalars(chain[-1], n).equal is False for n in chain[:-1]):
        return Doubted(value)
    return value


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
    """``x > 1``, ``1 < 2x + 1 \\le 3``, ``|x - 1| < 2``: one variable, at most linear, on one side."""
    if set(operators) <= {">", "≥"}:
        sides, operators = sides[::-1], [{">": "<", "≥": "≤"}[o] for o in operators[::-1]]
    if not set(operators) <= {"<", "≤"} or len(sides) > 3:
        raise Unreadable("unsupported: chain of inequalities")
    nodes = [parse_expression(s).node for s in sides]
    places = [i for i, n in enumerate(nodes) if symbols(n)]
    if len(places) != 1 or len(symbols(nodes[places[0]])) != 1 or (len(sides) == 3 and places != [1]):
        raise Unreadable("unsupported: inequality that is not solved for a variable")
    place = places[0]
    middle, (name,) = nodes[place], symbols(nodes[place])
    low, low_open = (nodes[place - 1], operators[place - 1] == "<") if place else (MINUS_INFINITY, True)
    high, high_open = (
        (nodes[place + 1], operators[place] == "<") if place + 1 < len(nodes) else (INFINITY, True)
    )
    bounds = [(low, high, low_open, high_open)]
    if middle.op == "abs":
        middle = middle.args[0]
        if is_infinite(low):
            bounds = [(Node("neg", (high,)), high, high_open, high_open)]
        else:
            bounds.append(
                (
                    Node("neg", (high,)) if high != INFINITY else MINUS_INFINITY,
                    Node("neg", (low,)),
                    high_open,
                    low_open,
                )
            )
    slope, offset = linear(middle, name)
    intervals = []
    for low, high, low_open, high_open in bounds:
        ends = [e if is_infinite(e) else _solved(e, slope, offset) for e in (low, high)]
        if real_order(slope, number(0)) < 0:
            ends = [{INFINITY: MINUS_INFINITY, MINUS_INFINITY: INFINITY}.get(e, e) for e in ends[::-1]]
            low_open, high_open = high_open, low_open
        intervals.append(Interval(*ends, low_open or is_infinite(ends[0]), high_open or is_infinite(ends[1])))
    return RealSet(tuple(intervals), name)


def _solved(value: Node, slope: Node, offset: Node) -> Node:
    if (slope, offset) == (number(1), number(0)):
        return value
    return Node("div", (Node("add", (value, Node("neg", (offset,)))), slope))


def linear(node: Node, name: str) -> tuple[Node, Node]:
    """Slope and offset of ``node`` in ``name``. Raises Unreadable if it is not linear in it."""
    if node == Node("sym", (name,)):
        return number(1), number(0)
    offset = substitute(node, name, number(0))
    slope = Node("add", (substitute(node, name, number(1)), Node("neg", (offset,))))
    line = Node("add", (Node("mul", (slope, Node("sym", (name,)))), offset))
    if not compare_scalars(node, line).equal or compare_scalars(slope, number(0)).equal is not False:
        raise Unreadable("unsupported: not linear")
    return slope, offset
