"""What every source of problems makes."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.records import Problem


@dataclass(frozen=True)
class ProblemSet:
    """``train`` feeds the teacher, ``heldout`` the evaluation."""

    train: list[Problem]
    heldout: list[Problem]
