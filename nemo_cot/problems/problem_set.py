"""What every source of problems makes."""

from __future__ import annotations

from dataclasses import dataclass, field

from nemo_cot.records import Problem


@dataclass(frozen=True)
class ProblemSet:
    """``train`` feeds the teacher, ``heldout`` the evaluation. ``left_out``: problems that were not taken, by reason."""

    train: list[Problem]
    heldout: list[Problem]
    left_out: dict[str, int] = field(default_factory=dict)
