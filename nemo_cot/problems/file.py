"""problems=file: out of two files of JSON lines."""

from __future__ import annotations

from pathlib import Path

from nemo_cot.config import FileProblems
from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import iter_numbered_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.problems.problem_set import ProblemSet
from nemo_cot.records import Problem, row_id


def make(config: FileProblems) -> ProblemSet:
    """Every row of both. Raises UserError that names file, line and field."""
    return ProblemSet(
        read_problems(config.train_path, "problems.train_path") if config.train_path else [],
        read_problems(config.heldout_path, "problems.heldout_path"),
    )


def read_problems(path: str, key: str) -> list[Problem]:
    """Every row of the file that ``key`` names. Raises UserError that names file, line and field."""
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
