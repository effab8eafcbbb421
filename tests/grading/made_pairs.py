r"""Pairs of a gold and an answer with known truth, made from templates: right ones and near misses.

Each maker yields (gold, answer, truth), truth "right", or "not" for what must not be right. The
numbers come from a fixed seed, so that a pair is named by its text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

Pair = tuple[str, str, str]
Maker = Callable[[random.Random], Iterator[Pair]]
MAKERS: list[Maker] = []


def maker(function: Maker) -> Maker:
    MAKERS.append(function)
    return function


def pairs() -> list[tuple[str, str, str, str]]:
    """All pairs, with the class that they belong to: (class, gold, answer, truth)."""
    from tests.grading import made_forms, made_numbers  # noqa: F401  (they fill MAKERS)

    made = [(make.__name__, *pair) for make in MAKERS for pair in make(random.Random(make.__name__))]
    return list(dict.fromkeys(made))
