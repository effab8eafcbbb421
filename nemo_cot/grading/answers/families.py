r"""Infinitely many answers by one formula: residue classes, and what a parameter runs through.

``x \equiv 5 \pmod 7`` and ``7k + 5, k \in \mathbb{Z}`` are the same family: {5 + 7k}.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from nemo_cot.grading.answers.expression import Node, number, parse_expression, substitute, symbols
from nemo_cot.grading.answers.kinds import Family, Named, Scalar
from nemo_cot.grading.answers.relations import Reader, linear
from nemo_cot.grading.answers.scalars import Finding, compare_scalars
from nemo_cot.grading.answers.tables import word_set
from nemo_cot.grading.answers.token_lists import Tokens, cut_at, expand, plain, split
from nemo_cot.grading.answers.tokens import Unreadable
from nemo_cot.grading.answers.values import Numeric
from nemo_cot.grading.answers.words import is_prose

_CLAUSE = word_set(
    "for where with when and any all some every each an a is are be integer integers natural whole number numbers "
    "positive nonnegative non-negative negative nonzero arbitrary in ∈ ∀ mathbb { } Z N ( ) , : |"
)
_STARTS = word_set("for where with when and , ( ∀ : |")
_MAX_MEMBERS, _MAX_RATIO_BITS = 200, 80


def read_family(tokens: Tokens, one: Reader) -> Family | None:
    """``a + nb, n ∈ Z`` or ``a mod m``; None for other answers. Raises Unreadable."""
    modulus = next((i for i, t in enumerate(tokens) if t.kind == "text" and t.value == "mod"), None)
    if modulus and not is_prose(tokens[:modulus]):
        left = cut_at(tokens[:modulus], "≡")
        period = parse_expression(tokens[modulus + 1 :]).node
        members = [one(e)[0] for part in split(left[-1]) for e in expand(part)]
        nodes = [m.value.node if isinstance(m, Named) and isinstance(m.value, Scalar) else getattr(m, "node", None)
                 for m in members]  # fmt: skip
        if len(left) > 2 or None in nodes:
            raise Unreadable("syntax: congruence")
        step = Node("mul", (period, Node("sym", ("k",))))
        name = plain(left[0]) if len(left) == 2 else ""
        return Family(tuple(Node("add", (n, step)) for n in nodes), "k", "Z", name)
    start, clause = _clause(tokens)
    if not clause:
        return None
    names = {t.value for t in clause if t.kind == "name"} - {"Z", "N"}
    body = tokens[:start]
    if len(names) != 1 or not (names & {t.value for t in body}):
        return None
    (parameter,) = names
    said = {t.value for t in clause} & {
        "N",
        "natural",
        "positive",
        "negative",
        "nonnegative",
        "non-negative",
        "nonzero",
        "whole",
    }
    if not said and not {t.value for t in clause} & {"Z", "integer", "integers"}:
        return None
    items = [one(e)[0] for part in split(body) for e in expand(part)]
    left = {i.left for i in items if isinstance(i, Named)}
    nodes = [i.value if isinstance(i, Named) else i for i in items]
    if len(left) > 1 or not all(isinstance(n, Scalar) and not n.others for n in nodes):
        raise Unreadable("syntax: what a parameter runs through")
    return Family(
        tuple(n.node for n in nodes), parameter, " ".join(sorted(said)) or "Z", next(iter(left), "")
    )


def _clause(tokens: Tokens) -> tuple[int, Tokens]:
    """Where "n ∈ Z" and its like start behind the formula, and the clause."""
    start = at = len(tokens)
    while at and (tokens[at - 1].value in _CLAUSE or tokens[at - 1].kind == "name"):
        at -= 1
        if tokens[at].value in _STARTS:
            start = at
    return start, tokens[start:]


def compare_families(a: Family, b: Family) -> Finding:
    """The same members, whatever the parameter; open where that is not a matter of periods."""
    if a.name and b.name and a.name != b.name:
        return Finding(None, "family: of another name")
    if a.domain == b.domain == "Z":
        try:
            return Finding(_same_members(_periods(a), _periods(b)), "family")
        except Unreadable as problem:
            if "not linear" not in problem.reason:
                return Finding(None, problem.reason)
    renamed = [substitute(n, b.parameter, Node("sym", (a.parameter,))) for n in b.members]
    same = all(any(compare_scalars(m, n).equal for n in renamed) for m in a.members)
    equal = same and len(renamed) == len(a.members) and a.domain == b.domain
    return Finding(True if equal else None, "family: " + ("renamed" if equal else "not periodic"))


def has_member(family: Family, node: Node) -> Finding:
    """One value against all: never what was asked, but open where it is one of them."""
    if symbols(node):
        return compare_free(family, node)
    try:
        member = any(
            _whole(Node("add", (node, Node("neg", (start,)))), step) for start, step in _periods(family)
        )
    except Unreadable as problem:
        return Finding(None, problem.reason)
    return Finding(None if member else False, "family: one member")


def compare_free(family: Family, node: Node) -> Finding:
    """The formula alone, without what its parameter runs through."""
    (name, *others) = sorted(symbols(node))
    if others or len(family.members) != 1:
        return Finding(None, "family: the parameter is not named")
    same = compare_families(family, Family((node,), name, family.domain)).equal
    return Finding(True if same else None, "family: what the parameter runs through is left out")


def _periods(family: Family) -> list[tuple[Node, Node]]:
    """Start and step of each formula."""
    found = []
    for member in family.members:
        slope, offset = linear(member, family.parameter)
        if symbols(slope) | symbols(offset):
            raise Unreadable("family: another variable in it")
        found.append((offset, slope))
    return found


def _ratio(a: Node, b: Node) -> Fraction | None:
    """a / b where that is rational with a small denominator."""
    numeric = Numeric(40)
    quotient = numeric.value(Node("div", (a, b)))
    if numeric.context.im(quotient) or numeric.context.mag(quotient) > _MAX_RATIO_BITS:
        return None
    value = Fraction(str(numeric.context.nstr(numeric.context.re(quotient), 30))).limit_denominator(10**4)
    exact = Node("mul", (number(value), b))
    return value if compare_scalars(a, exact).equal else None


def _whole(a: Node, b: Node) -> bool:
    ratio = _ratio(a, b)
    return ratio is not None and ratio.denominator == 1


def _same_members(a: Sequence[tuple[Node, Node]], b: Sequence[tuple[Node, Node]]) -> bool:
    """Whether two unions of {start + n step} are the same: as residues of the smallest common step."""
    ratios = [_ratio(step, a[0][1]) for _, step in (*a, *b)]
    if None in ratios:
        return False
    common = Fraction(1)
    for ratio in ratios:
        ratio = abs(ratio)
        while (common / ratio).denominator != 1:
            common *= (common / ratio).denominator
    period = Node("mul", (number(common), a[0][1]))
    sides = []
    for side, own in ((a, ratios[: len(a)]), (b, ratios[len(a) :])):
        count = [int(abs(common / ratio)) for ratio in own]
        if sum(count) > _MAX_MEMBERS:
            raise Unreadable("family: too many residues")
        sides.append(
            [
                Node("add", (start, Node("mul", (number(k), step))))
                for (start, step), n in zip(side, count)
                for k in range(n)
            ]
        )
    covered = [
        all(any(_whole(Node("add", (m, Node("neg", (n,)))), period) for n in other) for m in one)
        for one, other in (sides, sides[::-1])
    ]
    return all(covered)
