"""Make the train and held-out problems; no problem is in both. A module per source, found by problems.source."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

from nemo_cot.config import ProblemsConfig, TeacherConfig
from nemo_cot.errors import UserError
from nemo_cot.problems.problem_set import ProblemSet
from nemo_cot.records import Problem

__all__ = ["ProblemSet", "check_apart", "check_problems", "make_problems"]


def make_problems(config: ProblemsConfig, teacher: TeacherConfig | None = None) -> ProblemSet:
    """The problems of ``config``, checked: not empty, ids unique, no training problem twice, train and
    held-out disjoint. ``teacher``: whose file they may come out of."""
    more = (teacher,) if config.of_traces else ()
    problems = _source(config).make(config, *more)
    _check(problems)
    return problems


def check_apart(train: Sequence[Problem], heldout: Sequence[Problem], *, of: str = "") -> None:
    """Raise UserError for a held-out problem (``of``: of which set) that is a training problem, whatever their ids."""
    known = {_folded(problem): problem.problem_id for problem in train}
    for problem in heldout:
        if (same := known.get(_folded(problem))) is not None:
            raise UserError(
                f"the held-out problem{of} is a training problem too, {same}",
                where=f"problem {problem.problem_id}",
                fix="take it out of one of the two sets",
            )


def check_problems(config: ProblemsConfig) -> None:
    """What can be said of the config of problems that are in no file without making them all. Raises UserError."""
    if (check := getattr(_source(config), "check", None)) is not None:
        check(config)


def _source(config: ProblemsConfig) -> ModuleType:
    return importlib.import_module(f"{__name__}.{config.source}")


def _check(problems: ProblemSet) -> None:
    ids: set[str] = set()
    for problem in [*problems.train, *problems.heldout]:
        if problem.problem_id in ids:
            raise UserError(
                "the id occurs twice",
                where=f"problem {problem.problem_id}",
                fix="give every problem an id of its own",
            )
        ids.add(problem.problem_id)
    train: dict[str, str] = {}
    for problem in problems.train:
        first = train.setdefault(_folded(problem), problem.problem_id)
        if first != problem.problem_id:
            raise UserError(
                f"the training problem is the same as {first}, and would be counted as another one",
                where=f"problem {problem.problem_id}",
                fix="take one of the two out of problems.train_path",
            )
    check_apart(problems.train, problems.heldout)


def _folded(problem: Problem) -> str:
    """Its text, whatever blanks and line breaks stand between the words."""
    return " ".join(problem.problem.split())
