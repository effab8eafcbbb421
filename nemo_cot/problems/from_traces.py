"""problems=from_traces: the problems of the teacher's own file."""

from __future__ import annotations

import hashlib
from collections import Counter

from nemo_cot.config import FileTeacher, TracesProblems
from nemo_cot.errors import UserError
from nemo_cot.grading.extraction import extract_answer
from nemo_cot.io.paths import user_path
from nemo_cot.problems.file import read_problems
from nemo_cot.problems.problem_set import ProblemSet
from nemo_cot.records import Problem
from nemo_cot.traces.rows import SourceRow, folded, source_rows


def make(config: TracesProblems, teacher: FileTeacher) -> ProblemSet:
    """The problems of the rows that teacher.where takes, distinct by their text, in the order of the file.

    Left out and counted: those without an expected answer, with two different ones, and held-out ones. Raises
    UserError as the readers do, for an id that stands with two texts, and if too few are left.
    """
    heldout = read_problems(config.heldout_path, "problems.heldout_path")
    rows: dict[str, SourceRow] = {}
    answers: dict[str, set[str]] = {}
    for row in source_rows(user_path(teacher.path), teacher, Counter()):
        text = folded(row.problem or "")
        if not text:
            fix = "set teacher.columns.problem to the column that holds it, or choose problems=file"
            raise UserError("the row has no text of its problem", where=row.place, fix=fix)
        rows.setdefault(text, row)
        answers.setdefault(text, set()).update(filter(None, [_answer(row)]))
    left_out, known = Counter(), {folded(problem.problem) for problem in heldout}
    found: dict[str, tuple[Problem, SourceRow]] = {}
    for text, row in rows.items():
        if reason := _reason(answers[text], text in known):
            left_out[reason] += 1
            continue
        problem = Problem(
            problem_id=_identity(row, text, teacher),
            problem=row.problem or "",
            expected_answer=next(iter(answers[text])),
            subset_for_metrics=row.subset_for_metrics,
        )
        if (other := found.setdefault(problem.problem_id, (problem, row))[1]) is not row:
            raise UserError(
                f"the id {problem.problem_id} is that of another problem in {other.place.rpartition(', ')[2]}",
                where=row.place,
                fix="correct the ids, or, where they number the rows, teacher.match=text",
            )
    return ProblemSet(
        _drawn([problem for problem, _ in found.values()], config, left_out, teacher), heldout, dict(left_out)
    )


def _answer(row: SourceRow) -> str | None:
    """The expected answer; of a whole solution its last box."""
    text = (row.expected_answer or "").strip()
    return (extract_answer(text) if "boxed" in text else None) or text or None


def _reason(answers: set[str], held_out: bool) -> str | None:
    if held_out:
        return "held out"
    return (
        None
        if len(answers) == 1
        else "with two expected answers"
        if answers
        else "without an expected answer"
    )


def _identity(row: SourceRow, text: str, teacher: FileTeacher) -> str:
    """The row's id; without one, or where ids are not trusted, one that follows from the text alone."""
    own = row.problem_id if teacher.match == "id" else None
    return own or f"problem-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _drawn(
    problems: list[Problem], config: TracesProblems, left_out: Counter[str], teacher: FileTeacher
) -> list[Problem]:
    """``config.num_train`` of them, by a key that hangs on seed and id alone, so that other rows change
    nothing.
    """
    wanted = len(problems) if config.num_train is None else config.num_train
    if len(problems) < max(1, wanted):
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "none left out"
        raise UserError(
            f"{len(problems)} problems ({reasons}), where {max(1, wanted)} are asked for",
            where=teacher.path,
            fix="lower problems.num_train, widen teacher.where, or set teacher.columns.expected_answer",
        )
    keys = {p.problem_id: hashlib.sha256(f"{config.seed}:{p.problem_id}".encode()).digest() for p in problems}
    chosen = set(sorted(keys, key=lambda name: keys[name])[:wanted])
    return [problem for problem in problems if problem.problem_id in chosen]
