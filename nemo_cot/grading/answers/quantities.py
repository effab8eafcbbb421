"""Compare numbers and expressions with their units, marks, decimals and letters, by the rules of docs/grading.md."""

from __future__ import annotations

from nemo_cot.grading.answers.expression import Node, number, substitute, symbols, walk
from nemo_cot.grading.answers.kinds import Ratio, Scalar
from nemo_cot.grading.answers.scalars import (
    Finding,
    compare_scalars,
    decimal_rounds,
    has_mark,
    is_decimal,
    may_lack,
    without_mark,
)

_TIMES, _TEMPERATURES = {"time", "month"}, {"temperature", "celsius", "fahrenheit"}


def compare_quantities(gold: Scalar, prediction: Scalar) -> Finding:
    """Whether two numbers or expressions, with their units, are the same. Finding.equal is None where that is open."""
    finding = _compare_units(gold, prediction)
    left, right = dict(gold.others), dict(prediction.others)
    for cause in left | right:  # where both are open to it they are read alike
        other = _compare_units(
            Scalar(left.get(cause, gold.node), gold.unit),
            Scalar(right.get(cause, prediction.node), prediction.unit),
        )
        if other.equal is not finding.equal:
            return Finding(None, f"open-{cause}: two readings differ")
    return finding


def _compare_units(gold: Scalar, prediction: Scalar) -> Finding:
    """Units may be left out on one side; both given they are converted. Million and dozen multiply."""
    a, b = gold.unit, prediction.unit
    if any(_degrees(s) and _temperature(o) for s, o in ((gold, prediction), (prediction, gold))):
        return Finding(None, "degrees: of an angle or a temperature")
    bare = _compare_values(gold.node, prediction.node, has_unit=bool(a or b))
    if not a and not b:
        return bare
    unknown = [u for u in (a, b) if u and u.dimension is None]
    if unknown:
        alike = a and b and a.names == b.names
        return bare if alike else Finding(None, f"words: {' '.join(unknown[0].names)!r}")
    nodes = [s.node if not s.unit or s.unit.scale == 1 else Node("mul", (s.node, number(s.unit.scale)))
             for s in (gold, prediction)]  # fmt: skip
    scaled = _compare_values(*nodes, has_unit=True)
    if bare.equal and not scaled.equal and (not a or not b or 1 in (a.scale, b.scale)):
        return Finding(None, "words: one side says how many")
    if not (a and b and a.dimension and b.dimension):
        guessed = any(u and u.guessed for u in (a, b))
        return Finding(None, "unit-or-variable") if guessed and scaled.equal is not False else scaled
    if a.dimension == b.dimension:
        return _compare_values(*(Node("mul", (n, number(u.factor))) for n, u in zip(nodes, (a, b)))
                               ) if a.factor != b.factor else scaled  # fmt: skip
    kinds = [{name for name, _ in u.dimension if not name.startswith("#")} for u in (a, b)]
    if "unit" in kinds[0] | kinds[1]:
        return scaled
    if not kinds[0] and not kinds[1]:
        return Finding(None, "units: other things are counted") if scaled.equal else scaled
    if all(k <= _TIMES or k <= _TEMPERATURES for k in kinds):
        return Finding(None, "units: no fixed factor")
    return Finding(False, "units: of different kinds")


def _degrees(scalar: Scalar) -> bool:
    return scalar.unit is None and has_mark(scalar.node, "deg")


def _temperature(scalar: Scalar) -> bool:
    return scalar.unit is not None and bool(_TEMPERATURES & dict(scalar.unit.dimension or ()).keys())


def _compare_values(gold: Node, prediction: Node, *, has_unit: bool = False) -> Finding:
    """Equal values, a decimal of enough digits, or the same number with a degree or percent sign left out.

    The sign may be left out of a number that it is the only reading of: 50 for 50% and 30 for 30 degrees, but
    not 0.25, which is a share, nor pi, which is an angle.
    """
    finding = compare_scalars(gold, prediction)
    if finding.equal:
        return finding
    natural = _functions(gold) & {"ln", "log"} == {"ln"} and finding.reason.startswith("open-log")
    if natural and compare_scalars(gold, _natural(prediction)).equal:
        return Finding(True, "log-is-ln: the gold writes ln")
    letters = _other_letter(gold, prediction)
    if letters and compare_scalars(gold, letters[1]).equal:
        return Finding(letters[0], "another-letter: of a constant or an index")
    for mark, name in (("deg", "degrees"), ("pct", "percent")):
        if has_mark(gold, mark) != has_mark(prediction, mark) and not has_unit:
            bare = without_mark(gold, mark), without_mark(prediction, mark)
            if compare_scalars(*bare).equal:
                sure = may_lack(bare[0], mark)
                return Finding(True if sure else None, f"{name}-sign-left-out")
    for decimal, exact in ((prediction, gold), (gold, prediction)):
        if is_decimal(decimal) and decimal_rounds(decimal, exact):
            return Finding(True, "decimal: rounded to 6 digits or more")
    return finding


def _functions(node: Node) -> set[str]:
    return {n.args[0] for n in walk(node) if n.op == "fn"}


def _natural(node: Node) -> Node:
    return Node(
        node.op, tuple(_natural(a) if isinstance(a, Node) else "ln" if a == "log" else a for a in node.args)
    )


_INDICES, _CONSTANTS, _VARIABLES = set("kmnjl"), set("CcKk"), {*"xtuyzsvwr", "theta"}


def _other_letter(gold: Node, prediction: Node) -> tuple[bool | None, Node] | None:
    """``prediction`` in the gold's letter where the two differ in one: what equality then says, and the tree.

    x + c is x + C, the constant of an integral; 6n + 1 for 6k + 1 is open.
    """
    mine, theirs = symbols(gold) - symbols(prediction), symbols(prediction) - symbols(gold)
    if len(mine) != 1 or len(theirs) != 1:
        return None
    (a,), (b,) = mine, theirs
    renamed = substitute(prediction, b, Node("sym", (a,)))
    shared = symbols(gold) & symbols(prediction)
    if {a, b} <= _CONSTANTS and "C" in (a, b) and len(shared) == 1 and shared <= _VARIABLES:
        return (True if _is_term(gold, a) and _is_term(prediction, b) else None), renamed
    return (None, renamed) if {a, b} <= _INDICES and not shared else None


def _is_term(node: Node, name: str) -> bool:
    """Whether the sum has the letter as a term of its own, and nowhere else."""
    here = [n for n in walk(node) if n == Node("sym", (name,))]
    terms = [node]
    while terms and terms[0].op == "add":
        terms = [*terms[0].args, *terms[1:]]
        terms.sort(key=lambda n: n.op != "add")
    return len(here) == 1 and here[0] in terms


def compare_ratios(gold: Ratio, prediction: Ratio) -> Finding:
    """Proportional parts; times of day are the same or not."""
    if len(gold.parts) != len(prediction.parts):
        return Finding(False, "ratio: not as many parts")
    same = all(compare_scalars(a, b).equal for a, b in zip(gold.parts, prediction.parts))
    if gold.half or prediction.half:
        if not (gold.half and prediction.half):
            return Finding(None, "time: am or pm")
        return Finding(same and gold.half == prediction.half, "time")
    crossed = [
        compare_scalars(Node("mul", (a, prediction.parts[0])), Node("mul", (b, gold.parts[0]))).equal
        for a, b in zip(gold.parts, prediction.parts)
    ]
    if all(crossed) and (gold.clock != prediction.clock if same else gold.clock and prediction.clock):
        return Finding(None, "ratio-or-time")
    return Finding(None if not all(crossed) and None in crossed else all(crossed), "ratio")


def compare_ratio_number(gold: Ratio | Scalar, prediction: Ratio | Scalar) -> Finding:
    """3:4 is the number 3/4 too."""
    ratio, scalar = (gold, prediction) if isinstance(gold, Ratio) else (prediction, gold)
    if ratio.half or len(ratio.parts) != 2 or scalar.unit:
        return Finding(None, "ratio: against a number")
    return Finding(compare_scalars(Node("div", ratio.parts), scalar.node).equal or None, "ratio")
