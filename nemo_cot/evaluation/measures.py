"""The measures of one model: each figure as one value per problem, from its graded samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec
import numpy as np

from nemo_cot.errors import UserError
from nemo_cot.evaluation.compared import COMPARED
from nemo_cot.evaluation.metrics import Metric, majority_at_k, pass_at_1, pass_at_k
from nemo_cot.evaluation.outcomes import UNDECIDED, WRONG, Outcomes, from_rows
from nemo_cot.grading.scorers import chance

STRICT_SOURCE = "boxed"
"""Strict correctness requires the answer in a box; lenient accepts it wherever the grader finds it."""
NO_REASON = "unknown"


class GradedRow(Protocol):
    """A graded sample: a records.Trace, or a Struct with these of its fields."""

    problem_id: str
    sample: int
    subset_for_metrics: str | None
    num_generated_tokens: int
    finish_reason: str
    predicted_answer: str | None
    answer_source: str | None
    verdict: str | None
    symbolic_correct: bool | None
    nemo_skills_answer: str | None
    scorer: str | None
    scorer_data: dict[str, Any] | None


@dataclass(frozen=True)
class Readings:
    """The samples of one model, read in three ways, all with the same problems in the same order.

    ``lenient`` and ``strict`` have our verdicts, ``nemo_skills`` has its verdicts and answers.
    ``boxed``: bool arrays, and ``tokens``: int arrays, per problem over its samples.
    ``subsets``: indices of the problems of each subset_for_metrics, in the order of first occurrence. ``chance``: the
    share that guessing gets right, float [P], NaN where nothing can be guessed.
    """

    lenient: Outcomes
    strict: Outcomes
    nemo_skills: Outcomes
    boxed: Sequence[np.ndarray]
    tokens: Sequence[np.ndarray]
    subsets: Mapping[str, np.ndarray]
    chance: np.ndarray

    def chance_at(self, places: np.ndarray | slice = slice(None)) -> float | None:
        """Mean over the problems at ``places``; None where some of them have none."""
        found = self.chance[places]
        return None if np.isnan(found).any() else float(found.mean())


def readings(rows: Sequence[GradedRow]) -> Readings:
    """Read graded rows, in any order. Raises UserError for rows that are not graded, or of two subsets."""
    plain = [msgspec.structs.asdict(row) for row in rows]
    lenient = from_rows(plain)
    ordered = sorted(rows, key=lambda row: row.sample)
    problems = {row.problem_id: row for row in rows}
    guessed = {name: chance(row.scorer, row.scorer_data) for name, row in problems.items()}
    boxed = _grouped(ordered, lenient.problem_ids, lambda row: row.answer_source == STRICT_SOURCE)
    return Readings(
        lenient=lenient,
        strict=_keep_boxed(lenient, boxed),
        nemo_skills=from_rows(plain, grader="nemo_skills"),
        boxed=boxed,
        tokens=_grouped(ordered, lenient.problem_ids, lambda row: row.num_generated_tokens),
        subsets=_subsets(rows, lenient.problem_ids),
        chance=np.array([guessed[name] for name in lenient.problem_ids], dtype=float),  # None is NaN
    )


def compared_metrics(read: Readings, k: int, names: Sequence[str] = COMPARED) -> dict[str, Metric]:
    """The figures of COMPARED, or those of ``names``. Raises UserError if a problem has fewer than k samples."""

    def boxed() -> Metric:
        shares = np.array([flags.mean() for flags in read.boxed])
        return Metric("format_rate", shares, read.lenient.problem_ids, 0.0)

    found: dict[str, Callable[[], Metric]] = {
        "lenient": lambda: pass_at_1(read.lenient),
        "strict": lambda: pass_at_1(read.strict),
        "format_rate": boxed,
        "pass_at_k": lambda: pass_at_k(read.lenient, k),
        "majority_string": lambda: majority_at_k(read.lenient, k, vote="string"),
        "majority_equivalence": lambda: majority_at_k(read.lenient, k, vote="equivalence"),
        "nemo_skills_pass_at_1": lambda: pass_at_1(read.nemo_skills),
        "nemo_skills_majority": lambda: majority_at_k(read.nemo_skills, k, vote="string"),
    }
    return {name: found[name]() for name in names}


def further_metrics(read: Readings) -> dict[str, Metric]:
    """How the samples ended, the upper bound of lenient, and the mean number of tokens."""
    outcomes = read.lenient
    unsure = (outcomes.verdicts == UNDECIDED).sum(axis=1) / outcomes.sample_counts
    missing = [np.mean([a is None or not a.strip() for a in answers]) for answers in outcomes.answers]
    columns = {"undecided": unsure, "no_answer": np.array(missing)}
    found = {name: Metric(name, column, outcomes.problem_ids, 0.0) for name, column in columns.items()}
    tokens = np.array([counts.mean() for counts in read.tokens])
    return {
        "lenient_undecided_right": pass_at_1(outcomes, undecided="right"),
        **found,
        "mean_tokens": Metric("mean_tokens", tokens, outcomes.problem_ids, 0.0, share=False),
    }


def finish_metrics(outcomes: Outcomes) -> dict[str, Metric]:
    """Share of the samples of each problem that ended with each finish reason, by reason; length is always there."""
    ended = [[reason or NO_REASON for reason in reasons] for reasons in outcomes.finish_reasons]
    shares = {
        reason: np.array([row.count(reason) / len(row) for row in ended])
        for reason in dict.fromkeys(["length", *(reason for row in ended for reason in row)])
    }
    return {name: Metric(name, column, outcomes.problem_ids, 0.0) for name, column in shares.items()}


def _grouped(
    ordered: Sequence[GradedRow], problem_ids: Sequence[str], read: Callable[[GradedRow], int]
) -> list[np.ndarray]:
    """Per problem, the values of ``read`` for its samples, in their order."""
    found: dict[str, list[int]] = {name: [] for name in problem_ids}
    for row in ordered:
        found[row.problem_id].append(read(row))
    return [np.array(found[name]) for name in problem_ids]


def _keep_boxed(outcomes: Outcomes, boxed: Sequence[np.ndarray]) -> Outcomes:
    """The same outcomes with every answer that is not boxed counted as wrong."""
    verdicts = outcomes.verdicts.copy()
    for row, flags in zip(verdicts, boxed):
        row[: len(flags)][~flags] = WRONG
    return replace(outcomes, verdicts=verdicts)


def _subsets(rows: Sequence[GradedRow], problem_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Indices of the problems per subset; problems without a subset are in none."""
    named: dict[str, str | None] = {}
    for row in rows:
        if named.setdefault(row.problem_id, row.subset_for_metrics) != row.subset_for_metrics:
            raise UserError(
                f"subset_for_metrics is {named[row.problem_id]!r} and {row.subset_for_metrics!r}",
                where=f"problem {row.problem_id}", fix="give all samples of a problem the same subset",
            )  # fmt: skip
    places: dict[str, list[int]] = {}
    for place, name in enumerate(problem_ids):
        if (subset := named[name]) is not None:
            places.setdefault(subset, []).append(place)
    return {subset: np.array(found) for subset, found in places.items()}
