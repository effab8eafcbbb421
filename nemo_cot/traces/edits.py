"""What transforms share: which parts of a text a dose means, and texts without or with other parts."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence

from nemo_cot.traces.steps import Step


def share(count: int, dose: float) -> int:
    """``dose`` x ``count``, to the nearest whole number; halves go up."""
    return math.floor(count * dose + 0.5)


def drawn(count: int, dose: float, draw: random.Random) -> list[int]:
    """The positions (of 0 to ``count`` - 1) that a dose means, in random order. A higher dose adds to those
    of a lower one, for the same state of ``draw``.
    """
    order = list(range(count))
    draw.shuffle(order)
    return order[: share(count, dose)]


def without(pieces: Sequence[str], dropped: Collection[int]) -> str:
    """``pieces`` (each with the white space behind it) without those at ``dropped``; of the white space
    between two that stay, the widest stays: a paragraph remains one.
    """
    text = gap = ""
    for number, piece in enumerate(pieces):
        body = piece.rstrip()
        own = piece[len(body) :]
        if number in dropped:
            gap = max(gap, own, key=lambda white: (white.count("\n"), len(white)))
        else:
            text += gap + body if text else body
            gap = own
    return text if dropped else text + gap


def with_bodies(steps: Sequence[Step], bodies: Sequence[str]) -> str:
    """The steps' text with other bodies; the white space between them stays where it is."""
    return "".join(body + step.gap for step, body in zip(steps, bodies, strict=True))
