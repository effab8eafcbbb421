"""Equations as nodes: the factors of a side, and whether two of them are the same."""

from __future__ import annotations

from nemo_cot.grading.answers.expression import Node, symbols
from nemo_cot.grading.answers.scalars import Finding, compare_scalars


def factors(node: Node) -> list[Node]:
    """What ``node`` multiplies, without the bars of absolute values."""
    if node.op in ("mul", "abs"):
        return [f for child in node.children for f in factors(child)]
    return [node]


def proportional(a: Node, b: Node) -> Finding:
    """Whether a = 0 and b = 0 are the same equation: their ratio does not depend on the variables."""
    names = sorted(symbols(a))
    if not names:
        return Finding(None, "equation: without variables")
    renamed = {n: n + "*" for n in names}
    finding = compare_scalars(
        Node("mul", (a, _renamed(b, renamed))),
        Node("mul", (_renamed(a, renamed), b)),
    )
    if finding.equal is False:
        return Finding(False, "equation: not a multiple")
    return Finding(finding.equal, f"equation: {finding.reason}")


def _renamed(node: Node, names: dict[str, str]) -> Node:
    if node.op == "sym":
        return Node("sym", (names.get(node.args[0], node.args[0]),))
    return Node(node.op, tuple(_renamed(a, names) if isinstance(a, Node) else a for a in node.args))
