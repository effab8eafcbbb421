"""Whether two expressions are the same number, or the same function of the same variables.

Different values are told apart numerically. Equality of algebraic numbers is proved: the
difference is evaluated with more digits than the separation bound of Burnikel, Funke, Mehlhorn,
Schirra and Schmitt (2009, "A separation bound for real algebraic expressions") needs to tell it
from zero. Expressions with pi, e, logarithms or angles count as equal at 200 digits, and as many
more as the sizes of their parts ask for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import mpmath

from nemo_cot.grading.answers.expression import Node, symbols, walk
from nemo_cot.grading.answers.tokens import Unreadable
from nemo_cot.grading.answers.values import Numeric, TooLarge, Undefined, exact_value

MIN_DECIMAL_DIGITS = 6
"""Significant digits from which a correctly rounded decimal counts as the exact number it rounds."""

FLOAT_DIGITS = 15
"""Digits that a double holds: behind them 1.4142135623730951 may be off by what it rounds."""

INFINITY = Node("const", ("oo",))
MINUS_INFINITY = Node("neg", (INFINITY,))

_QUICK_DIGITS = 40
_TRANSCENDENTAL_DIGITS = 200
_MAX_DIGITS = 6000
_POINTS = 5
_POSITIVE_POINTS = 3


@dataclass(frozen=True)
class Finding:
    """``equal`` is None where no trustworthy statement can be made; ``reason`` says which rule spoke."""

    equal: bool | None
    reason: str


def compare_scalars(a: Node, b: Node) -> Finding:
    r"""Whether ``a`` and ``b`` have the same value. Symmetric. Never raises Unreadable.

    ``\log`` without a base is read as natural and as decimal; where that matters nothing is decided.
    """
    if a == b:
        return Finding(True, "same-expression")
    bare_log = any(n.op == "fn" and n.args[0] == "log" for n in walk(a) + walk(b))
    findings = [_compare(a, b, base) for base in ((None, 10) if bare_log else (None,))]
    if len({f.equal for f in findings}) > 1:
        return Finding(None, "open-log: the base of \\log decides")
    return findings[0]


def _compare(a: Node, b: Node, log_base: int | None) -> Finding:
    if INFINITY in (a, b) or MINUS_INFINITY in (a, b):
        return _compare_infinite(a, b)
    try:
        left, right = exact_value(a), exact_value(b)
        if left is not None and right is not None:
            return Finding(left == right, "exact")
        names = sorted(symbols(a) | symbols(b))
        return _compare_functions(a, b, names, log_base) if names else _compare_constants(a, b, log_base)
    except Undefined as problem:
        return Finding(None, problem.reason)
    except Unreadable as problem:
        return Finding(None, problem.reason)
    except (MemoryError, RecursionError):
        return Finding(None, "too-large: memory")


def _compare_infinite(a: Node, b: Node) -> Finding:
    """Infinity against the other infinity, or against something else."""
    mixed = any(n == INFINITY for n in walk(b if a in (INFINITY, MINUS_INFINITY) else a))
    both = {a, b} <= {INFINITY, MINUS_INFINITY}
    return Finding(a == b if both or not mixed else None, "infinity")


def _compare_constants(a: Node, b: Node, log_base: int | None) -> Finding:
    """Tell apart at 40 digits or more, or prove equal at the digits that the separation bound asks for."""
    separation = _separation_digits(a, b)
    digits = _TRANSCENDENTAL_DIGITS + _written_digits(a, b) if separation is None else separation
    if _differ(a, b, digits, log_base, relative=separation is None):
        return Finding(False, "numeric")
    return Finding(True, f"equal-to-{digits}-digits")


def _differ(
    a: Node, b: Node, digits: int, log_base: int | None, values: dict | None = None, *, relative: bool = True
) -> bool:
    """Whether the values differ; if not, they agree to ``digits`` decimal digits behind the point.

    A difference is real if it stays where it is at twice the digits: a rounding error shrinks. The
    working digits grow with the largest value met on the way; where ``digits`` is no bound but a
    policy (``relative``), with the smallest too: 1 - e^{-2024} needs 880 digits to differ from 1.
    Raises TooLarge if more than 6000 are needed.
    """
    working, sizes = _QUICK_DIGITS, None
    while True:
        difference, high, low = _difference(a, b, working, log_base, values)
        sizes = sizes or high + 2 * (high - low) * relative  # later ones may be of rounding errors
        if difference > mpmath.ldexp(1, high) * mpmath.mpf(10) ** -6:
            return True
        if difference:
            again, *_ = _difference(a, b, 2 * working, log_base, values)
            if abs(again - difference) < difference / 100:
                return True
        needed = digits + _QUICK_DIGITS + math.ceil(0.30103 * sizes)
        if needed <= working:
            return False
        if needed > _MAX_DIGITS:
            raise TooLarge(f"too-close: {needed} digits needed to decide")
        working = min(needed, 8 * working)


def _difference(a: Node, b: Node, digits: int, log_base: int | None, values: dict | None) -> tuple:
    """|a - b| at ``digits`` decimal digits, and the binary exponents of the largest and smallest value met."""
    numeric = Numeric(digits, values, log_base)
    difference = abs(numeric.value(a) - numeric.value(b))
    return mpmath.mpf(difference), numeric.high, numeric.low


def _compare_functions(a: Node, b: Node, names: list[str], log_base: int | None) -> Finding:
    """Compare at fixed irrational-looking points; equal there means equal as functions.

    Equal for positive variables only (sqrt(x^2) and x) is not decided: it hangs on the domain.
    """
    shows: dict[bool, list[bool]] = {True: [], False: []}
    for point, values in enumerate(sample_points(names)):
        positive = point < _POSITIVE_POINTS
        try:
            shows[positive].append(_differ(a, b, 60, log_base, values))
        except TooLarge:
            raise
        except Undefined:
            continue
    if any(shows[True]):
        return Finding(False, "at-a-point")
    if {"z", "w"} & set(names) and "abs" in {n.op for n in walk(a) + walk(b)}:
        shows[False].append(
            _differ(a, b, 60, log_base, {n: complex(0.75 + i, 1.5) for i, n in enumerate(names)})
        )
    if len(shows[True]) < 2:
        return Finding(None, "undefined: at the points tried")
    if any(shows[False]):
        return Finding(None, "open-domain: equal for positive variables only")
    return Finding(True, "at-points")


def sample_points(names: list[str]) -> list[dict[str, Fraction]]:
    """Values for ``names``: three points with positive coordinates, then two with negative ones."""
    return [
        {name: _coordinate(point, index, point < _POSITIVE_POINTS) for index, name in enumerate(names)}
        for point in range(_POINTS)
    ]


def _coordinate(point: int, index: int, positive: bool) -> Fraction:
    """A rational with 25 digits between 0.5 and 3, fixed: verdicts do not depend on chance."""
    primes = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)
    seed = primes[(point + 2 * index) % 10] * 100 + 37 * point + 101 * index + 7
    digits = math.isqrt(seed * 10**50) % 10**25
    value = Fraction(1, 2) + Fraction(5, 2) * Fraction(digits, 10**25)
    return value if positive else -value


# The separation bound


def _separation_digits(a: Node, b: Node) -> int | None:
    """Decimal digits that tell ``a - b`` from zero, or None if an operand is not algebraic."""
    roots: set[Node] = set()
    sizes = _bound(Node("add", (a, Node("neg", (b,)))), roots)
    if sizes is None:
        return None
    degree = 1
    for root in roots:
        degree *= 2 if root.op == "const" else _root_degree(root)
        if degree > 1 << 20:
            return _MAX_DIGITS * 1000
    above, below = sizes
    return math.ceil(((degree - 1) * above + below) * math.log10(2)) + 10


def _root_degree(node: Node) -> int:
    exponent = exact_value(node.args[1])
    return int(exponent) if node.op == "root" else exponent.denominator


def _bound(node: Node, roots: set[Node]) -> tuple[float, float] | None:
    """log2 of the bounds u and l of BFMSS for ``node``; collects its distinct radicals in ``roots``."""
    if node.op in ("num", "dec"):
        value = node.args[0]
        return float(abs(value.numerator).bit_length()), float(value.denominator.bit_length())
    if node.op == "const":
        roots.add(node)
        return (0.0, 0.0) if node.args[0] == "i" else None
    if node.op in ("fact", "binom", "floor", "ceil"):
        value = exact_value(node)
        return None if value is None else (float(abs(value.numerator).bit_length()), 1.0)
    if node.op in ("pow", "root"):
        return _bound_power(node, roots)
    parts = [_bound(child, roots) for child in node.children]
    if node.op not in _BOUND_RULES or any(p is None for p in parts):
        return None
    return _BOUND_RULES[node.op](*parts)


_BOUND_RULES = {
    "neg": lambda a: a,
    "abs": lambda a: a,
    "pct": lambda a: (a[0], a[1] + 7),
    "add": lambda a, b: (max(a[0] + b[1], a[1] + b[0]) + 1, a[1] + b[1]),
    "mul": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "div": lambda a, b: (a[0] + b[1], a[1] + b[0]),
}


def _bound_power(node: Node, roots: set[Node]) -> tuple[float, float] | None:
    base, exponent = _bound(node.args[0], roots), exact_value(node.args[1])
    if base is None or exponent is None or exponent == 0:
        return None
    exponent = 1 / exponent if node.op == "root" else exponent
    times, degree = abs(exponent.numerator), exponent.denominator
    above, below = base[0] * times, base[1] * times
    if exponent < 0:
        above, below = below, above
    if degree == 1:
        return above, below
    roots.add(node)
    if above >= below:
        return (above + (degree - 1) * below) / degree, below
    return above, ((degree - 1) * above + below) / degree


def _written_digits(*nodes: Node) -> int:
    """Digits of all numbers in the trees: a decimal of 300 is compared to its end."""
    values = [part.args[0] for node in nodes for part in walk(node) if part.op in ("num", "dec")]
    return sum(len(str(value.numerator)) + len(str(value.denominator)) for value in values)


# Decimals


def is_decimal(node: Node) -> bool:
    """Whether the expression is nothing but a written decimal, with or without a sign."""
    return node.op == "dec" or (node.op == "neg" and node.args[0].op == "dec")


def decimal_rounds(decimal: Node, exact: Node) -> bool:
    """Whether ``decimal`` is ``exact`` correctly rounded or cut, to 6 significant digits or more.

    Only for exact numbers without a finite decimal expansion: 2.88 is not 23/8.
    """
    if is_decimal(exact) or symbols(exact):
        return False
    rational = _try_exact(exact)
    if rational is not None and _terminates(rational):
        return False
    leaf = decimal.args[0] if decimal.op == "neg" else decimal
    written, places = leaf.args
    scaled = written * 10**places
    if len(str(abs(int(scaled)))) < MIN_DECIMAL_DIGITS or len(str(int(scaled))) > 300:
        return False
    try:
        numeric = Numeric(len(str(int(scaled))) + _QUICK_DIGITS)
        value = numeric.value(exact)
    except Unreadable:
        return False
    if numeric.context.im(value) != 0 or not numeric.context.isfinite(value):
        return False
    if (
        numeric.context.mag(value) > abs(written.numerator).bit_length() + 4
    ):  # far from it, perhaps too large to write
        return False
    value = numeric.context.re(-value if decimal.op == "neg" else value) * 10**places
    if (
        len(str(int(scaled))) > FLOAT_DIGITS
        and abs(value - scaled) < abs(scaled) * numeric.context.mpf(2) ** -51
    ):
        return True
    return int(numeric.context.nint(value)) == scaled or int(value) == scaled


def _try_exact(node: Node) -> Fraction | None:
    try:
        return exact_value(node)
    except Unreadable:
        return None


def _terminates(value: Fraction) -> bool:
    """Whether the decimal expansion of ``value`` is finite."""
    denominator = value.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator == 1


# Degrees and percent


def without_mark(node: Node, mark: str) -> Node:
    """The tree with every ``mark`` node ("deg" or "pct") replaced by its argument: 30° as 30."""
    if node.op == mark:
        return without_mark(node.args[0], mark)
    if not node.children:
        return node
    return Node(node.op, tuple(without_mark(a, mark) if isinstance(a, Node) else a for a in node.args))


def has_mark(node: Node, mark: str) -> bool:
    """Whether a degree or percent sign stands anywhere in the tree."""
    return any(n.op == mark for n in walk(node))


def may_lack(node: Node, mark: str) -> bool:
    """Whether a number is understood without its sign: more than 1 is no share, more than 7 no radians."""
    value = _try_exact(node)
    return value is not None and abs(value) > (7 if mark == "deg" else 1)
