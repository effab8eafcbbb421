"""problems=file: out of two files of JSON lines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nemo_cot.config import FileProblems
from nemo_cot.config.data import PER_ROW
from nemo_cot.errors import UserError
from nemo_cot.grading.scorers import MATH, load_scorer, scorer_names
from nemo_cot.io.jsonl import iter_numbered_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.problems.problem_set import ProblemSet
from nemo_cot.records import Problem, row_id

CODE_KEYS = (
    "test", "tests", "test_list", "test_cases", "unit_tests", "public_test_cases", "private_test_cases", "input_output",
    "entry_point", "starter_code", "canonical_solution",
)  # fmt: skip
"""Columns of HumanEval, MBPP, APPS, LiveCodeBench and their like."""


def make(config: FileProblems) -> ProblemSet:
    """Every row of both. Raises UserError that names file, line and field."""
    return ProblemSet(
        read_problems(config.train_path, "problems.train_path", config.scorer) if config.train_path else [],
        read_problems(config.heldout_path, "problems.heldout_path", config.scorer),
    )


def read_problems(path: str, key: str, scorer: str | None = None) -> list[Problem]:
    """Every row of the file that ``key`` names. ``scorer`` as problems.scorer. Raises UserError that names file, line
    and field.
    """
    problems = [_problem(row, line, path, scorer) for line, row in iter_numbered_jsonl(user_path(path))]
    if not problems:
        raise UserError(
            "the problem set is empty",
            where=f"{key}={path}",
            fix="give JSON lines with the keys problem and expected_answer",
        )
    return problems


def refuse_code(keys: Iterable[str], where: str) -> None:
    """Raise UserError for a row without an answer that has the ``keys`` of a problem of programming."""
    if found := [key for key in keys if key in CODE_KEYS]:
        raise UserError(
            f"a problem that is checked by running code ({found[0]}), and nothing is executed here",
            where=where,
            fix="leave such problems out, or give an expected_answer that text is compared with",
        )


def _problem(row: dict, line: int, path: str, scorer: str | None) -> Problem:
    where = f"{path}, line {line}"
    answer = row.get("expected_answer")
    if answer is None:
        refuse_code(row, where)
    name, data = _scoring(row, where, scorer)
    if name == "text" and isinstance(answer, list) and answer:
        answer, data = answer[0], {**(data or {}), "accepted": [*(data or {}).get("accepted", []), *answer[1:]]}
    for key, value in (("problem", row.get("problem")), ("expected_answer", answer)):
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
    if name is not None:
        try:
            load_scorer(name, data, where=f"{where}, field scorer_data").check(str(answer))
        except ValueError as error:
            fix = "correct the row; options are given as scorer_data={options: {A: ..., B: ...}}, or problems=multiple_choice"
            raise UserError(f"{error}", where=where, fix=fix if name == "choice" else "correct the row") from None
    return Problem(
        problem_id=row_id(row) or f"{Path(path).stem}-{line}",
        problem=str(row["problem"]),
        expected_answer=str(answer),
        subset_for_metrics=row.get("subset_for_metrics"),
        reference_solution=row.get("reference_solution"),
        scorer=name,
        scorer_data=data,
    )


def _scoring(row: dict, where: str, scorer: str | None) -> tuple[str | None, dict | None]:
    """The scorer of a row and its data; of mathematics None."""
    own, data = row.get("scorer"), row.get("scorer_data")
    if scorer != PER_ROW and own is not None and own != (scorer or MATH):
        raise UserError(
            f"the row's scorer is {own!r}, that of all rows {scorer or MATH}",
            where=f"{where}, field scorer",
            fix=f"set problems.scorer={PER_ROW}, of problems=file" if own in scorer_names() else f"choose among {', '.join(scorer_names())}",
        )
    name = own if scorer == PER_ROW else scorer
    if name in (None, MATH):
        return None, None
    if not isinstance(data, (dict, type(None))):
        raise UserError("is not a group of keys", where=f"{where}, field scorer_data", fix="give it as an object")
    return name, data
