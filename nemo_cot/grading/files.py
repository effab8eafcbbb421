"""Grade a JSON-lines file of NeMo-Skills' style, and grade it again with a newer grader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.grading.batch import Progress, grade_many, nemo_skills_verdicts
from nemo_cot.grading.extraction import THOUGHTS
from nemo_cot.grading.nemo_skills_rule import nemo_skills_answer
from nemo_cot.grading.scorers import MATH, Scoring, load_scorer, question, scorer_version
from nemo_cot.grading.verdict import RIGHT, UNDECIDED, Verdict
from nemo_cot.io.jsonl import iter_numbered_jsonl, write_jsonl

MAX_EXAMPLES = 50
"""Rows that a summary names one by one; it counts them all."""


@dataclass(frozen=True)
class Change:
    """One row whose verdict is not the same twice: ``before`` and ``after``, or NeMo-Skills' and ours."""

    line: int
    problem_id: str
    gold: str
    answer: str | None
    before: str
    after: str
    reason: str


@dataclass
class GradeSummary:
    """Counts over one file. ``right_by_decimal``: right by the decimal rule alone, a part of the right ones. ``moved``: verdicts that differ from the file's own, by (old, new).

    ``differing``: rows where NeMo-Skills' rule and ours disagree, by (theirs, ours). Examples
    hold the first rows of each. ``previous_versions``: grader versions that the file came with.
    """

    rows: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    right_by_decimal: int = 0
    undecided_reasons: Counter[str] = field(default_factory=Counter)
    moved: Counter[tuple[str, str]] = field(default_factory=Counter)
    moved_examples: list[Change] = field(default_factory=list)
    differing: Counter[tuple[str, str]] = field(default_factory=Counter)
    differing_examples: list[Change] = field(default_factory=list)
    previous_versions: Counter[str] = field(default_factory=Counter)


@dataclass
class _Row:
    """What is asked of one row (``question``: as in scorers.question), and what is added to it."""

    scorer: str
    question: str
    answer: str | None
    source: str | None
    their_answer: str | None
    verdict: Verdict = field(init=False)
    theirs: bool | None = None


def grade_file(
    input: Path,
    output: Path,
    *,
    fallback: str,
    workers: int,
    deadline_seconds: float,
    cache: Path | None,
    nemo_skills: bool,
    progress: Progress | None = None,
    thoughts: str = THOUGHTS[0],
) -> GradeSummary:
    """Grade each row of ``input`` (``generation``, ``expected_answer``, and ``scorer`` with its ``scorer_data`` where it is
    no mathematics) and write ``output`` atomically.

    Adds predicted_answer, answer_source, verdict, verdict_reason, grader_version; with
    ``nemo_skills`` also symbolic_correct (null where their rule did not end, and for what is no mathematics) and
    nemo_skills_answer, what their rule extracts. All other keys pass through unchanged. ``input``
    is read twice, so that memory holds answers and not generations; it may be ``output``.
    ``fallback`` and ``thoughts`` as in :func:`extract`. Raises UserError naming file, line and field.
    """
    ask = _Reader(input, fallback, thoughts, nemo_skills)
    asked = [ask(line, row) for line, row in iter_numbered_jsonl(input)]
    if not asked:
        raise UserError(
            "the file holds no rows", where=str(input), fix="give a file with one JSON object a line"
        )
    limits = {"workers": workers, "deadline_seconds": deadline_seconds}
    for scorer in dict.fromkeys(one.scorer for one in asked):
        own = [one for one in asked if one.scorer == scorer]
        pairs = [(one.question, one.answer) for one in own]
        found = grade_many(pairs, cache=cache, progress=progress, scorer=scorer, **limits)
        for one, verdict in zip(own, found):
            one.verdict = verdict
        if nemo_skills and scorer == MATH:
            said = [(one.question, one.their_answer) for one in own]
            for one, symbolic in zip(own, nemo_skills_verdicts(said, progress=progress, **limits)):
                one.theirs = symbolic
    summary = GradeSummary()
    write_jsonl(output, _rows(input, asked, summary, nemo_skills))
    return summary


class _Reader:
    """What the rows of a file ask."""

    def __init__(self, path: Path, fallback: str, thoughts: str, nemo_skills: bool) -> None:
        self.path, self.options, self.nemo_skills = path, {"fallback": fallback, "thoughts": thoughts}, nemo_skills
        self._known: dict[tuple[str, bytes], Scoring] = {}

    def __call__(self, line: int, row: dict[str, Any]) -> _Row:
        generation, gold = row.get("generation"), row.get("expected_answer")
        if not isinstance(generation, str):
            raise _field_error(self.path, line, "generation", generation, "a string")
        if isinstance(gold, bool) or not isinstance(gold, str | int | float):
            raise _field_error(self.path, line, "expected_answer", gold, "a string or a number")
        name, data, gold = row.get("scorer") or MATH, row.get("scorer_data"), str(gold)
        found = self._scorer(line, name, data).extract(generation, **self.options)
        theirs = nemo_skills_answer(generation) if self.nemo_skills and name == MATH else None
        return _Row(name, question(name, gold, data), found.answer, found.source, theirs)

    def _scorer(self, line: int, name: Any, data: Any) -> Scoring:
        key = str(name), msgspec.json.encode(data)
        if key not in self._known:
            self._known[key] = load_scorer(name, data, where=f"{self.path}, line {line}, field scorer")
        return self._known[key]


def _field_error(path: Path, line: int, name: str, value: Any, wanted: str) -> UserError:
    found = "it is missing" if value is None else f"it is {type(value).__name__}"
    return UserError(
        f"{name} must be {wanted}, {found}", where=f"{path}, line {line}, field {name}", fix="correct the row"
    )


def _rows(
    path: Path, graded: list[_Row], summary: GradeSummary, nemo_skills: bool
) -> Iterator[dict[str, Any]]:
    """The rows of ``path`` with their verdicts, counted on the way."""
    rows, versions = iter_numbered_jsonl(path), {}
    for (line, row), result in zip(rows, graded):
        _count(summary, line, row, result, nemo_skills)
        row["predicted_answer"], row["answer_source"] = result.answer, result.source
        row["verdict"], row["verdict_reason"] = result.verdict.outcome, result.verdict.reason
        row["grader_version"] = versions.setdefault(result.scorer, scorer_version(result.scorer))
        if nemo_skills:
            row["symbolic_correct"], row["nemo_skills_answer"] = result.theirs, result.their_answer
        yield row
    if summary.rows != len(graded) or next(rows, None) is not None:
        raise UserError("the file changed while it was graded", where=str(path), fix="grade a finished file")


def _count(summary: GradeSummary, line: int, row: dict[str, Any], result: _Row, nemo_skills: bool) -> None:
    outcome = result.verdict.outcome
    summary.rows += 1
    summary.outcomes[outcome] += 1
    summary.right_by_decimal += outcome == RIGHT and result.verdict.reason.startswith("decimal")
    if outcome == UNDECIDED:
        summary.undecided_reasons[result.verdict.reason.split(":")[0]] += 1
    old = row.get("verdict")
    if old is not None:
        summary.previous_versions[str(row.get("grader_version"))] += 1
        if old != outcome:
            summary.moved[str(old), outcome] += 1
            _keep(summary.moved_examples, line, row, result, str(old))
    if nemo_skills and result.scorer == MATH and result.theirs != (outcome == RIGHT):
        theirs = {True: "right", False: "wrong", None: "undecided"}[result.theirs]
        if theirs != outcome:
            summary.differing[theirs, outcome] += 1
            _keep(summary.differing_examples, line, row, result, theirs)


def _keep(examples: list[Change], line: int, row: dict[str, Any], result: _Row, before: str) -> None:
    if len(examples) < MAX_EXAMPLES:
        name, gold = str(row.get("problem_id", row.get("id", ""))), str(row["expected_answer"])
        outcome, reason = result.verdict.outcome, result.verdict.reason
        examples.append(Change(line, name, gold, result.answer, before, outcome, reason))
