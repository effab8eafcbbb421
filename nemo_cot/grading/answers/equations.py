"""Equations as nodes: the factors of a side, and whether two of them are the same."""

from __future__ import annotations

from nemo_cot.grading.answers.expression import Node, substitute, symbols
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
    elsewhere = [a, b]
    for name in names:
        elsewhere = [substitute(n, name, Node("sym", (name + "*",))) for n in elsewhere]
    finding = compare_scalars(Node("mul", (a, elsewhere[1])), Node("mul", (elsewhere[0], b)))
    if finding.equal is False:
        return Finding(False, "equation: not a multiple")
    return Finding(finding.equal, f"equation: {finding.reason}")
