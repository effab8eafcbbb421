"""Compare two read answers by their kinds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nemo_cot.grading.answers.equations import factors, proportional
from nemo_cot.grading.answers.expression import Node, number, symbols, walk
from nemo_cot.grading.answers.families import compare_families, has_member
from nemo_cot.grading.answers.intervals import is_infinite, normal_form, same_set
from nemo_cot.grading.answers.kinds import (
    Answer,
    Choice,
    Doubted,
    Family,
    Items,
    Matrix,
    Named,
    Numeral,
    Piecewise,
    Ratio,
    RealSet,
    Scalar,
    Unread,
    Words,
)
from nemo_cot.grading.answers.quantities import compare_quantities, compare_ratio_number, compare_ratios
from nemo_cot.grading.answers.scalars import Finding, compare_scalars
from nemo_cot.grading.answers.tokens import Unreadable
from nemo_cot.grading.answers.units import SCALES
from nemo_cot.grading.answers.words import number_in_words

MAX_ITEMS = 200
"""Items of a list that are matched with each other (a matching costs the square of it)."""


def compare(gold: Answer, prediction: Answer) -> Finding:
    """Whether ``prediction`` says what ``gold`` says. Finding.equal is None where that is open."""
    if isinstance(gold, Unread) or isinstance(prediction, Unread):
        return _compare_unread(gold, prediction)
    if isinstance(gold, Words) or isinstance(prediction, Words):
        return _compare_words(gold, prediction)
    if isinstance(gold, Named) or isinstance(prediction, Named):
        return _compare_named(gold, prediction)
    if isinstance(gold, Doubted) or isinstance(prediction, Doubted):
        values = (a.value if isinstance(a, Doubted) else a for a in (gold, prediction))
        finding = compare(*values)
        return Finding(None, "chain: its sides differ") if finding.equal else finding
    rule = _RULES.get((type(gold), type(prediction)))
    if rule is None:
        return _compare_kinds(gold, prediction)
    try:
        return rule(gold, prediction)
    except Unreadable as problem:
        return Finding(None, problem.reason)


def _compare_kinds(gold: Answer, prediction: Answer) -> Finding:
    """Different kinds: what can be said more simply is that, everything else differs."""
    for side, other in ((gold, prediction), (prediction, gold)):
        simpler = _simpler(side, other)
        if simpler is not None:
            return compare(simpler, other) if side is gold else compare(other, simpler)
    if isinstance(gold, Choice):
        return Finding(None, "choice: the gold is a letter, the answer is not")
    vectors = any(isinstance(a, Scalar) and symbols(a.node) & _UNIT_VECTORS for a in (gold, prediction))
    partly = isinstance(gold, _PARTLY_READ) or isinstance(prediction, _PARTLY_READ)
    open_pairs = _are_pairs(gold, prediction) or _are_pairs(prediction, gold)
    equal = None if vectors or partly or open_pairs else False
    return Finding(equal, f"kinds: {_kind(gold)} and {_kind(prediction)}")


_UNIT_VECTORS = {"uniti", "unitj", "unitk"}
_PARTLY_READ = (Family, Piecewise, Ratio)


def _simpler(answer: Answer, other: Answer) -> Answer | None:
    """A single item in braces as that item, [2,2] or {2} as the set of its points, an option as its text."""
    if isinstance(answer, Items) and len(answer.items) == 1:
        return answer.items[0]
    intervals = answer.intervals if isinstance(answer, RealSet) and not isinstance(other, RealSet) else ()
    if intervals and all(i.low == i.high for i in intervals):
        return Items(tuple(Scalar(i.low) for i in intervals), "set")
    return answer.value if isinstance(answer, Choice) else None


def _are_pairs(real_set: Answer, items: Answer) -> bool:
    """(1,2),(3,4) against as many intervals: points, or their union."""
    if not isinstance(real_set, RealSet) or not isinstance(items, Items):
        return False
    pairs = all(isinstance(i, Items) and len(i.items) == 2 for i in items.items)
    return pairs and len(items.items) == len(real_set.intervals)


def _kind(answer: Answer) -> str:
    return answer.kind if isinstance(answer, Items | Words) else type(answer).__name__.lower()


# What is not read


def _compare_unread(gold: Answer, prediction: Answer) -> Finding:
    if isinstance(prediction, Unread) and prediction.malformed:
        return Finding(False, prediction.reason)
    if isinstance(gold, Unread):
        return Finding(None, f"gold-{gold.reason}")
    return Finding(None, f"answer-{prediction.reason}")


def _compare_words(gold: Answer, prediction: Answer) -> Finding:
    if isinstance(gold, Words) and isinstance(prediction, Words):
        if gold.text.lower() == prediction.text.lower():
            return Finding(True, "same-words")
        if gold.kind == prediction.kind == "label":
            return _compare_labels(gold.text, prediction.text)
    if isinstance(gold, Words):
        nothing = isinstance(prediction, RealSet) and not prediction.intervals  # undefined and DNE
        if nothing or (isinstance(prediction, Scalar) and prediction.node.op == "sym"):  # True and T
            return Finding(None, "gold-is-label: a sign for it")
        if gold.kind == "label" and not isinstance(prediction, Words | Family):
            return Finding(False, "kinds: a word and a formula")
        return Finding(None, f"gold-is-{gold.kind}")
    said = prediction.text.lower().split()
    if any(w.startswith("infinit") or w in SCALES or number_in_words([w]) is not None for w in said):
        return Finding(None, f"answer-is-{prediction.kind}")
    if prediction.kind == "label" or not any(c.isdigit() for c in prediction.text):
        return Finding(False, "answer-names-no-value")
    return Finding(None, f"answer-is-{prediction.kind}")


_SYNONYMS = ({"yes", "true"}, {"no", "false"})


def _compare_labels(gold: str, prediction: str) -> Finding:
    a, b = (" ".join(w for w in t.lower().split() if w not in ("a", "an", "the")) for t in (gold, prediction))
    if a == b or any({a, b} <= group for group in _SYNONYMS):
        return Finding(True, "same-words")
    if set(a.split()) & set(b.split()):
        return Finding(None, "gold-is-label: words in common")
    return Finding(False, "other-words")


# Named values and equations


def _compare_named(gold: Answer, prediction: Answer) -> Finding:
    gold, prediction = _in_name_order(gold), _in_name_order(prediction)
    if isinstance(gold, Named) and isinstance(prediction, Named):
        return _compare_equations(gold, prediction)
    if isinstance(gold, Named):
        return _strip_name(gold, prediction, compare(gold.value, prediction), gold_side=True)
    return _strip_name(prediction, gold, compare(gold, prediction.value), gold_side=False)


def _in_name_order(answer: Answer) -> Answer:
    """(y,x) = (1,2) as (x,y) = (2,1)."""
    if not isinstance(answer, Named) or not isinstance(answer.value, Items) or answer.value.kind != "tuple":
        return answer
    names = answer.left.strip("()").split(",")
    if len(names) != len(answer.value.items) or not all(len(n) == 1 and n.isalpha() for n in names):
        return answer
    pairs = sorted(zip(names, answer.value.items), key=lambda pair: pair[0])
    ordered = Items(tuple(item for _, item in pairs), "tuple")
    return Named(f"({','.join(name for name, _ in pairs)})", ordered, answer.left_node)


def _strip_name(named: Named, other: Answer, finding: Finding, *, gold_side: bool) -> Finding:
    """``x = 5`` is 5, but ``x^2 = 4`` is not 4, and ``5x + 1 = 0`` is not 0."""
    if not finding.equal or _is_name(named, gold_side=gold_side):
        return finding
    return Finding(None, "equation: its left side is no name")


def _is_name(named: Named, *, gold_side: bool) -> bool:
    node = named.left_node
    if node is None or node.op == "sym" or "(" in named.left or re.match(r"\{?frac\{d", named.left):  # dy/dx
        return True
    bars = any(n.op == "abs" for n in walk(node))
    parts = factors(node)
    if all(f.op == "sym" for f in parts) and (
        not bars or (len(parts) > 1 and all(f.args[0].isupper() for f in parts))
    ):
        return True  # AB = 5, |AB| = 5; but |x| = 8 is an equation
    several = len(symbols(node)) > 1
    zero = isinstance(named.value, Scalar) and compare_scalars(named.value.node, number(0)).equal
    return several and not zero and not gold_side


def _compare_equations(gold: Named, prediction: Named) -> Finding:
    """The same left side and value, or the same equation up to a constant factor."""
    if gold.left == prediction.left:
        return compare(gold.value, prediction.value)
    left, right = _as_zero(gold), _as_zero(prediction)
    if left is None or right is None:
        return Finding(None, "equation: other left side")
    if symbols(left) != symbols(right):
        if symbols(left) and _simple(gold) and _simple(prediction):
            return Finding(False, "equation: other name")
        return Finding(None, "equation: other variables")
    return proportional(left, right)


def _simple(named: Named) -> bool:
    return named.left_node is not None and named.left_node.op == "sym"


def _as_zero(named: Named) -> Node | None:
    if named.left_node is None or not isinstance(named.value, Scalar):
        return None
    return Node("add", (named.left_node, Node("neg", (named.value.node,))))


# Numbers and expressions


def _compare_numerals(gold: Numeral, prediction: Numeral) -> Finding:
    same_value = int(gold.digits, gold.base) == int(prediction.digits, prediction.base)
    return Finding(None if same_value and gold != prediction else gold == prediction, "numeral")


def _compare_numeral_scalar(gold: Answer, prediction: Answer) -> Finding:
    """52_8 against a plain number: 42 is its value and 52 its digits, but neither is what was asked."""
    numeral, scalar = (gold, prediction) if isinstance(gold, Numeral) else (prediction, gold)
    values = [
        int(numeral.digits, base) for base in (numeral.base, 10) if numeral.digits.isdigit() or base > 10
    ]
    if any(compare_scalars(scalar.node, number(value)).equal for value in values):
        return Finding(None, "numeral: the base is left out")
    return Finding(False, "numeral")


# Collections


def _compare_items(gold: Items, prediction: Items) -> Finding:
    if len(gold.items) != len(prediction.items):
        return Finding(None if "progression" in (gold.kind, prediction.kind) else False, "items: not as many")
    if len(gold.items) > MAX_ITEMS:
        return Finding(None, "items: too many to match")
    if len(gold.items) > 1 and (_names(gold.items) or _names(prediction.items)):
        return _compare_named_items(gold, prediction)
    in_order = _all_equal(gold.items, prediction.items)
    kinds = {gold.kind, prediction.kind}
    if "progression" in kinds:
        same = in_order.equal and kinds == {"progression"}
        return Finding(True if same else None, "items: a progression")
    if in_order.equal and kinds != {"tuple", "set"}:
        return in_order
    if gold.kind == "tuple" and prediction.kind != "set":
        return in_order
    matched = _match(gold.items, prediction.items)
    if kinds == {"tuple", "set"} or (kinds == {"tuple", "list"} and matched.equal):
        return matched if matched.equal is False else Finding(None, "items: an ordered and an unordered list")
    if kinds == {"list"} and _shows_order(gold.items) and matched.equal:
        return Finding(False, "items: a sequence in another order")
    return matched


def _names(items: Sequence[Answer]) -> tuple[str, ...]:
    """The names of x = 1, y = 2 when every item has one of its own; else nothing."""
    names = tuple(i.left for i in items if isinstance(i, Named))
    return names if len(names) == len(items) == len(set(names)) else ()


def _compare_named_items(gold: Items, prediction: Items) -> Finding:
    """Named values are compared by name; with values that have none, in the names' order (x, y, z)."""
    sides = [
        sorted(i.items, key=lambda n: n.left) if _names(i.items) else i.items for i in (gold, prediction)
    ]
    both = _names(gold.items) and _names(prediction.items)
    if both and set(_names(gold.items)) != set(_names(prediction.items)):
        return Finding(None, "items: other names")
    finding = _all_equal(*sides)
    if both or finding.equal or "tuple" in (gold.kind, prediction.kind):
        return finding
    if _match(gold.items, prediction.items).equal is False:
        return Finding(False, "items: one is missing")
    return Finding(None, "items: named values in another order")


def _all_equal(gold: Sequence[Answer], prediction: Sequence[Answer]) -> Finding:
    findings = [compare(g, p) for g, p in zip(gold, prediction)]
    for equal in (False, None):
        for finding in findings:
            if finding.equal is equal:
                return Finding(equal, f"items: {finding.reason}")
    return Finding(True, _reason(findings, "items: in order"))


def _reason(findings: Sequence[Finding], reason: str) -> str:
    """That a decimal was taken for an exact number is said of the whole answer too."""
    return next((f.reason for f in findings if f.reason.startswith("decimal")), reason)


def _match(gold: Sequence[Answer], prediction: Sequence[Answer]) -> Finding:
    """Pair the items off as multisets; open where only undecided comparisons are left."""
    rest, equal, is_open = list(prediction), [], False
    for item in gold:
        findings = [compare(item, other) for other in rest]
        place = next((i for i, f in enumerate(findings) if f.equal), None)
        if place is not None:
            rest.pop(place)
            equal.append(findings[place])
        elif any(f.equal is None for f in findings):
            is_open = True
        else:
            return Finding(False, "items: one is missing")
    return (
        Finding(None, "items: one cannot be compared")
        if is_open
        else Finding(True, _reason(equal, "items: as a multiset"))
    )


def _shows_order(items: Sequence[Answer]) -> bool:
    """Whether equal items stand apart from each other: a set is not written like that."""
    for i, item in enumerate(items):
        for j in range(i + 2, len(items)):
            if compare(item, items[j]).equal and not compare(item, items[j - 1]).equal:
                return True
    return False


def _compare_sets(gold: RealSet, prediction: RealSet) -> Finding:
    if gold.variable and prediction.variable and gold.variable != prediction.variable:
        return Finding(False, "set: another variable")
    if same_set(gold.intervals, prediction.intervals):
        return Finding(True, "set")
    sides = [normal_form(s.intervals) for s in (gold, prediction)]
    shapes = [[(i.low_open, i.high_open, is_infinite(i.low), is_infinite(i.high)) for i in s] for s in sides]
    ends = [[Scalar(e) for i in s for e in (i.low, i.high) if not is_infinite(e)] for s in sides]
    return _all_equal(*ends) if shapes[0] == shapes[1] else Finding(False, "set")


def _compare_matrices(gold: Matrix, prediction: Matrix) -> Finding:
    if [len(r) for r in gold.rows] != [len(r) for r in prediction.rows]:
        return Finding(False, "matrix: another shape")
    cells = [[Scalar(c) for row in m.rows for c in row] for m in (gold, prediction)]
    return _all_equal(*cells)


def _compare_vector(gold: Answer, prediction: Answer) -> Finding:
    """A column against an ordered tuple."""
    matrix, items = (gold, prediction) if isinstance(gold, Matrix) else (prediction, gold)
    if any(len(r) != 1 for r in matrix.rows) or items.kind != "tuple" or len(items.items) != len(matrix.rows):
        return Finding(False, "matrix: not that vector")
    return _all_equal([Scalar(r[0]) for r in matrix.rows], items.items)


def _compare_piecewise(gold: Piecewise, prediction: Piecewise) -> Finding:
    """Right where every row has its like; what holds at an end may be the same by both its rows."""
    rest = list(prediction.rows)
    for value, condition in gold.rows:
        found = [r for r in rest if compare(value, r[0]).equal and compare(condition, r[1]).equal]
        if not found:
            return Finding(None, "cases: a row without its like")
        rest.remove(found[0])
    return Finding(True if not rest else None, "cases")


def _compare_family_scalar(gold: Answer, prediction: Answer) -> Finding:
    family, scalar = (gold, prediction) if isinstance(gold, Family) else (prediction, gold)
    return has_member(family, scalar.node)


def _compare_choices(gold: Choice, prediction: Choice) -> Finding:
    same = gold.letter == prediction.letter
    if same and gold.value and prediction.value and compare(gold.value, prediction.value).equal is False:
        return Finding(None, "choice: the letter and another value")
    return Finding(same, "choice")


_RULES = {
    (Scalar, Scalar): compare_quantities,
    (Numeral, Numeral): _compare_numerals,
    (Numeral, Scalar): _compare_numeral_scalar,
    (Scalar, Numeral): _compare_numeral_scalar,
    (Items, Items): _compare_items,
    (RealSet, RealSet): _compare_sets,
    (Matrix, Matrix): _compare_matrices,
    (Matrix, Items): _compare_vector,
    (Items, Matrix): _compare_vector,
    (Choice, Choice): _compare_choices,
    (Ratio, Ratio): compare_ratios,
    (Ratio, Scalar): compare_ratio_number,
    (Scalar, Ratio): compare_ratio_number,
    (Piecewise, Piecewise): _compare_piecewise,
    (Family, Family): compare_families,
    (Family, Scalar): _compare_family_scalar,
    (Scalar, Family): _compare_family_scalar,
}
