"""Values of expression trees: exact fractions where possible, mpmath numbers otherwise, all bounded."""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import mpmath

from nemo_cot.grading.answers.expression import Node
from nemo_cot.grading.answers.tokens import Unreadable

MAX_BITS = 1 << 17
"""Bits of numerator or denominator that exact arithmetic may reach (about 40,000 digits)."""

MAX_EXPONENT_BITS = 100
"""Binary magnitude of an exponent that mpmath may evaluate: 10^{10^{10}} passes, a tower does not."""

MAX_FACTORIAL = 8000

MAX_WORK = 50_000
"""Work that the values of one pair of answers may take, in units of 5 to 20 microseconds.

Counted, not timed: a verdict must be the same on a slow machine, beside other work and the second time.
"""


class TooLarge(Unreadable):
    """A value outside the bounds above: nothing is evaluated, the answer stays undecided."""


class Undefined(Unreadable):
    """Division by zero, a logarithm of zero, infinity minus infinity."""


# The budget

_BUDGET = threading.local()


def start_budget(work: float = MAX_WORK) -> None:
    """Allow the values computed from now on, in this thread, so much work."""
    _BUDGET.left = work


def _spend(work: float) -> None:
    """Raises TooLarge, before the work is done, if that is more than is left."""
    _BUDGET.left = getattr(_BUDGET, "left", math.inf) - work
    if _BUDGET.left < 0:
        raise TooLarge("too-large: the values take too much work")


# Exact values


def exact_value(node: Node) -> Fraction | None:
    """The rational value of ``node``, or None if that is not seen. Raises TooLarge, Undefined."""
    _spend(1)
    if node.op in ("num", "dec"):
        return node.args[0]
    if node.op not in _EXACT:
        return None
    values = [exact_value(a) for a in node.children]
    try:
        value = None if None in values else _EXACT[node.op](*values)
    except ZeroDivisionError:
        raise Undefined("undefined: division by zero") from None
    bits = value.numerator.bit_length() + value.denominator.bit_length() if value is not None else 0
    if bits > 2 * MAX_BITS:
        raise TooLarge("too-large: exact value")
    _spend((bits / 8000) ** 2)
    return value


def _exact_pow(base: Fraction, power: Fraction) -> Fraction | None:
    if power.denominator != 1:
        return None
    exponent = power.numerator
    if base == 0 and exponent <= 0:
        raise Undefined("undefined: zero to a power that is not positive")
    if base in (0, 1, -1):
        return base if exponent % 2 else base * base
    if abs(exponent) * (base.numerator.bit_length() + base.denominator.bit_length() - 1) > MAX_BITS:
        return None  # mpmath may still know its size
    return base**exponent


def _exact_fact(value: Fraction) -> Fraction | None:
    whole = value.denominator == 1 and 0 <= value <= MAX_FACTORIAL
    return Fraction(math.factorial(int(value))) if whole else None


def _exact_binom(top: Fraction, bottom: Fraction) -> Fraction | None:
    if any(v.denominator != 1 or v < 0 for v in (top, bottom)):
        return None
    bits = max(0, min(bottom, top - bottom)) * top.numerator.bit_length()
    if top > MAX_BITS and bits > MAX_BITS:
        return None
    _spend((min(bits, MAX_BITS) / 1000) ** 2)
    return Fraction(math.comb(int(top), int(bottom)))


def _exact_root(value: Fraction, degree: Fraction) -> Fraction | None:
    if degree != 2 or value < 0:
        return None
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    return root if root * root == value else None


_ARITHMETIC = {
    "add": operator.add, "mul": operator.mul, "div": operator.truediv, "neg": operator.neg, "abs": abs,
    "pct": lambda value: value / 100,
}  # fmt: skip
_EXACT = {
    **_ARITHMETIC, "floor": lambda value: Fraction(math.floor(value)), "ceil": lambda value: Fraction(math.ceil(value)),
    "pow": _exact_pow, "fact": _exact_fact, "binom": _exact_binom, "root": _exact_root,
}  # fmt: skip


# Numeric values

_CONTEXTS = threading.local()


def _context(digits: int) -> Any:
    """An mpmath context of this thread at ``digits``: they change while they compute."""
    contexts = vars(_CONTEXTS)
    if digits not in contexts:
        if len(contexts) > 50:
            contexts.clear()
        contexts[digits] = mpmath.mp.clone()
        contexts[digits].dps = digits
    return contexts[digits]


_CHEAP = {*_ARITHMETIC, "num", "dec", "sym", "const", "floor", "ceil"}


class Numeric:
    """Evaluates trees at ``digits`` decimal digits; keeps the sizes met on the way.

    ``high`` and ``low`` are the binary exponents of the largest and the smallest value that is not 0.

    ``values`` gives the numbers that variables stand for, ``log_base`` what ``\\log`` means.
    """

    def __init__(
        self, digits: int, values: Mapping[str, Any] | None = None, log_base: int | None = None
    ) -> None:
        self.context = _context(digits)
        self.values = values or {}
        self.log_base = log_base
        self.high, self.low = 1, 1

    def value(self, node: Node) -> Any:
        """mpf or mpc value of ``node``. Raises TooLarge, Undefined, Unreadable."""
        try:
            exact = exact_value(node) if node.op in ("fact", "binom") else None
            _spend(self._work(node.op) if exact is None else 1)
            if exact is not None:
                result = self._num(exact)
            elif node.op in _ARITHMETIC:
                result = _ARITHMETIC[node.op](*map(self.value, node.args))
            else:
                result = getattr(self, "_" + node.op)(*node.args)
        except ZeroDivisionError:
            raise Undefined("undefined: division by zero") from None
        except (ValueError, OverflowError) as error:
            raise Undefined(f"undefined: {error}") from None
        if not self.context.isfinite(result) and node.op != "const":
            raise Undefined("undefined: not finite")
        if result and node.op != "const":
            self._note(self.context.mag(result))
        return result

    def _work(self, operation: str) -> float:
        """Units for one operation, measured with mpmath 1.3 at 40 to 6000 digits."""
        digits = self.context.dps
        if operation in ("fact", "binom"):  # gamma; the first time at so many digits takes far longer
            return 1 + (digits / 32) ** 3
        return 1 + (digits / (500 if operation in _CHEAP else 150)) ** 2

    def _note(self, size: int) -> None:
        self.high, self.low = max(self.high, int(size)), min(self.low, int(size))

    def _num(self, value: Fraction) -> Any:
        return self.context.mpf(value.numerator) / value.denominator

    def _dec(self, value: Fraction, places: int) -> Any:
        return self._num(value)

    def _sym(self, name: str) -> Any:
        if name not in self.values:
            raise Unreadable(f"free-variable: {name}")
        return self.context.convert(self.values[name])

    def _const(self, name: str) -> Any:
        if name == "oo":
            return self.context.inf
        return {"pi": +self.context.pi, "e": +self.context.e, "i": self.context.mpc(0, 1)}[name]

    def _deg(self, a: Node) -> Any:
        return self.value(a) * self.context.pi / 180

    def _pow(self, base: Node, exponent: Node) -> Any:
        b, e = self.value(base), self.value(exponent)
        self._bound_exponent(b, e)
        rational = exact_value(exponent)
        if (
            rational is not None
            and rational.denominator % 2
            and rational.denominator > 1
            and self._negative(b)
        ):
            root = -self.context.root(-b, rational.denominator)  # the real root, as in school
            return root**rational.numerator
        if rational is not None and rational.denominator == 1:
            return b ** int(rational.numerator)
        return b**e

    def _bound_exponent(self, base: Any, exponent: Any) -> None:
        if not base or not exponent:
            return
        size = abs(exponent) * (abs(self.context.mag(base)) + 1)
        if self.context.mag(size) > MAX_EXPONENT_BITS:
            raise TooLarge("too-large: exponent")

    def _negative(self, value: Any) -> bool:
        return self.context.im(value) == 0 and self.context.re(value) < 0

    def _root(self, radicand: Node, degree: Node) -> Any:
        value, order = self.value(radicand), exact_value(degree)
        if order is None or order.denominator != 1 or not 0 < order <= 1000:
            raise Unreadable("unsupported: degree of a root")
        if order == 2:
            return self.context.sqrt(value)
        if order % 2 and self._negative(value):
            return -self.context.root(-value, int(order))
        return self.context.root(value, int(order))

    def _fact(self, a: Node) -> Any:
        value = self.value(a)
        if self.context.mag(value) > MAX_EXPONENT_BITS:
            raise TooLarge("too-large: factorial")
        return self.context.factorial(value)

    def _binom(self, a: Node, b: Node) -> Any:
        top, bottom = self.value(a), self.value(b)
        if max(self.context.mag(top), self.context.mag(bottom)) > MAX_EXPONENT_BITS:
            raise TooLarge("too-large: binomial")
        return self.context.binomial(top, bottom)

    def _floor(self, a: Node) -> Any:
        return self._rounded(a, self.context.floor)

    def _ceil(self, a: Node) -> Any:
        return self._rounded(a, self.context.ceil)

    def _rounded(self, a: Node, rule: Any) -> Any:
        value = self.value(a)
        nearest = self.context.nint(value)
        close = abs(value - nearest) < self.context.mpf(10) ** (-self.context.dps // 2)
        if close and exact_value(a) is None:
            raise Unreadable("unsupported: floor of a number next to an integer")
        return rule(value)

    def _call(self, name: str, argument: Node) -> Any:
        """Any function that nothing is known of: some other one for each name."""
        seed = sum(3**place * ord(letter) for place, letter in enumerate(name))
        return self.context.cos(self.value(argument) * (1 + self.context.mpf(seed) / 997) + seed)

    def _fn(self, name: str, argument: Node) -> Any:
        value = self.value(argument)
        if self.context.mag(value) > MAX_EXPONENT_BITS:
            raise TooLarge(f"too-large: argument of {name}")
        if name in ("ln", "log", "lg"):
            if value == 0:
                raise Undefined("undefined: logarithm of zero")
            base = 10 if name == "lg" else self.log_base if name == "log" else None
            return self.context.log(value) if base is None else self.context.log(value, base)
        if name == "tanh":  # it comes as near to 1 as e^{-2x}
            self._note(-int(3 * abs(value)) - 1)
        elif name.startswith("arc") and value:  # and arctan as near to a right angle as 1/x
            self._note(-abs(self.context.mag(value)))
        rule = getattr(self.context, _MPMATH_NAMES.get(name, name), None)
        if rule is None:
            raise Unreadable(f"unsupported: {name}")
        return rule(value)


_MPMATH_NAMES = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", 
    "arccsc": "acsc",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
}  # fmt: skip
