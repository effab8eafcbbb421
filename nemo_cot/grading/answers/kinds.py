"""The kinds of answer that are told apart: what a text is read as before anything is compared."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.grading.answers.expression import Node
from nemo_cot.grading.answers.units import Unit


@dataclass(frozen=True)
class Scalar:
    """One number or expression, with the unit written behind it.

    ``others`` are the other readings of an expression like ``1/2x``, with what they hang on.
    """

    node: Node
    unit: Unit | None = None
    others: tuple[tuple[str, Node], ...] = ()


@dataclass(frozen=True)
class Items:
    """Several answers. ``kind``: "tuple" (ordered, in parentheses), "set" (in braces), "list" (bare),
    "progression" (first, step and last of 0, 3, 6, ..., 60; no last where it has no end).

    Sets and lists are multisets; a bare list that shows an order (equal items apart from each
    other: 6,6,5,6) is a sequence. Units behind the whole list are dropped.
    """

    items: tuple[Answer, ...]
    kind: str


@dataclass(frozen=True)
class Interval:
    """Real interval; infinite ends are open. ``low`` and ``high`` are constant expressions."""

    low: Node
    high: Node
    low_open: bool
    high_open: bool


@dataclass(frozen=True)
class RealSet:
    """Union of ``intervals``; empty for the empty set. ``variable`` is the name it was solved for, or ""."""

    intervals: tuple[Interval, ...]
    variable: str = ""


@dataclass(frozen=True)
class Matrix:
    """Rows of equal length."""

    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True)
class Named:
    """``left = value`` with a left side that is no constant: a name, ``f(x)``, ``AB``, ``a+b``."""

    left: str
    value: Answer
    left_node: Node | None = None


@dataclass(frozen=True)
class Family:
    """Every value of the ``members`` as their ``parameter`` runs through ``domain`` ("Z", or words)."""

    members: tuple[Node, ...]
    parameter: str
    domain: str
    name: str = ""


@dataclass(frozen=True)
class Ratio:
    """3:4, or a time of day: ``half`` is "am" or "pm", ``clock`` says that it may be one (3:45)."""

    parts: tuple[Node, ...]
    half: str = ""
    clock: bool = False


@dataclass(frozen=True)
class Piecewise:
    """Values with the conditions under which they hold."""

    rows: tuple[tuple[Answer, Answer], ...]


@dataclass(frozen=True)
class Doubted:
    """What a chain of equations claims whose sides differ: 2 of 6 - 7 - 6 = 2."""

    value: Answer


@dataclass(frozen=True)
class Choice:
    """Letter of a multiple-choice answer, with the option's own text where it was given."""

    letter: str
    value: Answer | None = None


@dataclass(frozen=True)
class Numeral:
    """Digits in a named base, as ``52_8``."""

    digits: str
    base: int


@dataclass(frozen=True)
class Words:
    """Prose, a name, or a list with an ellipsis. ``kind``: "label" (a word or two), "prose", "ellipsis"."""

    text: str
    kind: str


@dataclass(frozen=True)
class Unread:
    """Not read here; ``latex`` is left to math-verify unless ``malformed``. ``reason`` tells why."""

    latex: str
    reason: str
    malformed: bool = False


Answer = (
    Scalar
    | Items
    | RealSet
    | Matrix
    | Named
    | Family
    | Ratio
    | Piecewise
    | Doubted
    | Choice
    | Numeral
    | Words
    | Unread
)
