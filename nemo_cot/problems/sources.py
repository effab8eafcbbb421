"""Make the train and held-out problems; no problem is in both."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from nemo_cot.config import ChainSumProblems, FileProblems, ProblemsConfig
from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import iter_numbered_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.records import Problem, row_id


@dataclass(frozen=True)
class ProblemSet:
    """``train`` feeds the teacher, ``heldout`` the evaluation."""

    train: list[Problem]
    heldout: list[Problem]


def make_problems(config: ProblemsConfig) -> ProblemSet:
    """The problems of ``config``, checked: not empty, ids unique, no training problem twice, train and
    held-out disjoint."""
    problems = _chain_sum(config) if isinstance(config, ChainSumProblems) else _from_files(config)
    _check(problems)
    return problems


def problem_files(config: ProblemsConfig) -> dict[str, Path]:
    """The files that problems are read from, by what they are for; none for a procedure."""
    if isinstance(config, FileProblems):
        return {"train": user_path(config.train_path), "heldout": user_path(config.heldout_path)}
    return {}


def _chain_sum(config: ChainSumProblems) -> ProblemSet:
    """Draw from reasoning-gym until enough different problems are found."""
    wanted = config.num_train + config.num_heldout
    seen: dict[str, Problem] = {}
    for entry in _entries(config, size=20 * wanted):
        text = entry["question"]
        if text not in seen:
            seen[text] = Problem(
                problem_id=f"chain_sum-{len(seen)}", problem=text, expected_answer=str(entry["answer"])
            )
        if len(seen) == wanted:
            drawn = list(seen.values())
            return ProblemSet(drawn[: config.num_train], drawn[config.num_train :])
    raise UserError(
        f"only {len(seen)} different problems of {wanted} with {config.terms} terms of {config.digits} digits",
        where="problems",
        fix="ask for fewer, or raise problems.terms or problems.digits",
    )


def _entries(config: ChainSumProblems, size: int):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of packages that it imports
            import reasoning_gym
    except ImportError:
        raise UserError(
            "the package reasoning-gym is not installed",
            where="problems=chain_sum",
            fix="pip install -e '.[local]' in the clone, or problems=file",
        ) from None
    return reasoning_gym.create_dataset(
        "chain_sum", min_terms=config.terms, max_terms=config.terms, min_digits=config.digits,
        max_digits=config.digits, size=size, seed=config.seed,
    )  # fmt: skip


def _from_files(config: FileProblems) -> ProblemSet:
    return ProblemSet(
        _read(config.train_path, "problems.train_path"), _read(config.heldout_path, "problems.heldout_path")
    )


def _read(path: str, key: str) -> list[Problem]:
    problems = [_problem(row, line, path) for line, row in iter_numbered_jsonl(user_path(path))]
    if not problems:
        raise UserError(
            "the problem set is empty",
            where=f"{key}={path}",
            fix="give JSON lines with the keys problem and expected_answer",
        )
    return problems


def _problem(row: dict, line: int, path: str) -> Problem:
    where = f"{path}, line {line}"
    for key in ("problem", "expected_answer"):
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)) or str(value).strip() == "":
            raise UserError(
                f"{key} is missing, empty or not text",
                where=f"{where}, field {key}",
                fix=f"add {key} as text",
            )
    for key in ("subset_for_metrics", "reference_solution"):
        if not isinstance(row.get(key), (str, type(None))):
            raise UserError(
                f"{key} is not text",
                where=f"{where}, field {key}",
                fix=f"give {key} as text, or leave it out",
            )
    return Problem(
        problem_id=row_id(row) or f"{Path(path).stem}-{line}",
        problem=str(row["problem"]),
        expected_answer=str(row["expected_answer"]),
        subset_for_metrics=row.get("subset_for_metrics"),
        reference_solution=row.get("reference_solution"),
    )


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
    for problem in problems.heldout:
        if _folded(problem) in train:
            raise UserError(
                "the held-out problem is a training problem too",
                where=f"problem {problem.problem_id}",
                fix="take it out of one of the two sets",
            )


def _folded(problem: Problem) -> str:
    """Its text, whatever blanks and line breaks stand between the words."""
    return " ".join(problem.problem.split())
