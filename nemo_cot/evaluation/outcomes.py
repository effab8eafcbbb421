"""Graded answers of one run as arrays: the input of every metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nemo_cot.errors import UserError
from nemo_cot.grading.scorers import MATH

RIGHT, WRONG, UNDECIDED, ABSENT = 1, 0, -1, -2
"""Codes in Outcomes.verdicts; ABSENT pads problems that have fewer samples than others."""

_CODES = {"right": RIGHT, "wrong": WRONG, "undecided": UNDECIDED}


@dataclass(frozen=True)
class Outcomes:
    """Samples of each problem, in the numeric order of their seeds.

    ``problem_ids``: P ids, distinct. ``verdicts``: int8 array [P, S] of the codes above, where S is
    the largest number of samples; problems with fewer are padded with ABSENT at the end. ``answers``: per
    problem the extracted answers of its samples (None: no answer). ``finish_reasons``: the same
    shape, None if the file has none. ``scorers``: of each problem; none at all: mathematics.
    """

    problem_ids: tuple[str, ...]
    verdicts: np.ndarray
    answers: tuple[tuple[str | None, ...], ...]
    finish_reasons: tuple[tuple[str | None, ...], ...]
    scorers: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.problem_ids)) != len(self.problem_ids):
            raise UserError(
                "a problem id occurs twice", where="outcomes", fix="merge the samples of each problem"
            )
        if self.verdicts.ndim != 2 or len(self.verdicts) != len(self.problem_ids):
            raise ValueError(
                f"verdicts have shape {self.verdicts.shape}; expected [{len(self.problem_ids)}, samples]"
            )

    @property
    def sample_counts(self) -> np.ndarray:
        """Number of samples per problem, int array [P]."""
        return (self.verdicts != ABSENT).sum(axis=1)


def from_rows(rows: Iterable[Mapping[str, Any]], *, grader: str = "ours") -> Outcomes:
    """Outcomes from graded JSON rows, one row per sample, in any order.

    ``grader="ours"`` reads ``verdict`` and ``predicted_answer``. ``grader="nemo_skills"`` reads
    ``symbolic_correct`` and ``nemo_skills_answer`` (``predicted_answer`` if a file of
    NeMo-Skills has no such key); a symbolic_correct of null counts as undecided. It is about mathematics: of other
    scorers ours are read. The problem is identified by ``problem_id``, ``id`` or ``problem``; its samples are ordered by ``sample`` (as a
    number), else by the order of the rows. Raises UserError naming row and field.
    """
    if grader not in ("ours", "nemo_skills"):
        raise ValueError(f"grader is {grader!r}; it must be ours or nemo_skills")
    problems: dict[str, list[tuple[Any, int, str | None, str | None]]] = {}
    scorers: dict[str, str | None] = {}
    for number, row in enumerate(rows, start=1):
        code, answer = _graded(row, number, grader)
        sample = (_sample(row, number), code, answer, row.get("finish_reason"))
        problems.setdefault(name := _problem(row, number), []).append(sample)
        scorers[name] = row.get("scorer")
    if not problems:
        raise UserError("there are no rows", where="graded rows", fix="grade a file with at least one row")
    return replace(_assemble(problems), scorers=tuple(scorers.values()) if any(scorers.values()) else ())


def _assemble(problems: dict[str, list[tuple[Any, int, str | None, str | None]]]) -> Outcomes:
    for name, samples in problems.items():
        numbers = [s[0] for s in samples if s[0] is not None]
        if len(set(numbers)) != len(numbers):
            raise UserError(
                "a sample occurs twice", where=f"problem {name}", fix="remove one of the two rows"
            )
        if len(numbers) == len(samples):
            samples.sort(key=lambda s: s[0])
    most = max(len(s) for s in problems.values())
    verdicts = np.full((len(problems), most), ABSENT, dtype=np.int8)
    for row, samples in zip(verdicts, problems.values()):
        row[: len(samples)] = [s[1] for s in samples]
    return Outcomes(
        tuple(problems),
        verdicts,
        tuple(tuple(s[2] for s in samples) for samples in problems.values()),
        tuple(tuple(s[3] for s in samples) for samples in problems.values()),
    )


def _problem(row: Mapping[str, Any], number: int) -> str:
    for key in ("problem_id", "id", "problem"):
        if row.get(key) is not None:
            return str(row[key])
    raise UserError("no problem_id, id or problem", where=f"row {number}", fix="add a problem_id to each row")


def _sample(row: Mapping[str, Any], number: int) -> int | None:
    sample = row.get("sample")
    if sample is None:
        return None
    with suppress(TypeError, ValueError, OverflowError):
        if int(sample) == float(sample):
            return int(sample)
    raise UserError(
        f"sample is {sample!r}", where=f"row {number}, field sample", fix="give the seed as an integer"
    )


def _graded(row: Mapping[str, Any], number: int, grader: str) -> tuple[int, str | None]:
    """Code and answer of one row."""
    if grader == "ours" or row.get("scorer") not in (None, MATH):
        verdict = row.get("verdict")
        if verdict not in _CODES:
            raise UserError(
                f"verdict is {verdict!r}", where=f"row {number}, field verdict", fix="grade the file first"
            )
        return _CODES[verdict], _text(row.get("predicted_answer"))
    if "symbolic_correct" not in row:
        raise UserError(
            "no symbolic_correct",
            where=f"row {number}, field symbolic_correct",
            fix="grade with NeMo-Skills' rule",
        )
    correct = row["symbolic_correct"]
    answer = row["nemo_skills_answer"] if "nemo_skills_answer" in row else row.get("predicted_answer")
    return UNDECIDED if correct is None else int(bool(correct)), _text(answer)


def _text(answer: Any) -> str | None:
    """An answer stored as a number votes as its digits."""
    return None if answer is None else str(answer)
