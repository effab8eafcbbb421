"""What transforms share: which parts of a text a dose means, and texts without or with other parts."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from nemo_cot.records import Trace
from nemo_cot.traces.steps import Step, segment
from nemo_cot.traces.thought import Parts
from nemo_cot.traces.transforms import Edit, Site


@dataclass(frozen=True)
class OfSteps:
    """A transform of steps of the thought. ``dose``: the share of them that it is done with. ``split``: what a step is
    (nemo_cot/traces/steps.py). ``done``: what it is called in the lineage. ``fewest``: of fewer steps nothing can be done.
    """

    done: ClassVar[str]
    fewest: ClassVar[int] = 1

    dose: float
    split: Literal["shift", "paragraph"] = "shift"

    def edit(self, trace: Trace, parts: Parts, site: Site) -> Edit:
        """The steps at the drawn places, as :meth:`changed` has them; all others stay as they are."""
        steps = segment(parts.thought, site.marks, split=self.split)
        places = drawn(len(steps), self.dose, site.draw)
        places = places if len(places) >= self.fewest else []
        text = parts.with_thought(self.changed(steps, places, trace, site))
        return Edit(text, {"steps": len(steps), self.done: len(places)})

    def changed(self, steps: Sequence[Step], places: list[int], trace: Trace, site: Site) -> str:
        """The thought with other steps at ``places``."""
        raise NotImplementedError


def share(count: int, dose: float) -> int:
    """``dose`` x ``count``, to the nearest whole number; halves go up."""
    return math.floor(round(count * dose, 9) + 0.5)  # 0.7 x 45 is 31.5, but 31.499... of floats


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


def with_bodies(steps: Sequence[Step], others: Mapping[int, str]) -> str:
    """The steps' text with ``others`` in place of some bodies; the white space between them stays where it is."""
    return "".join(others.get(at, step.body) + step.gap for at, step in enumerate(steps))
