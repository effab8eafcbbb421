"""The figures of one evaluation: each subject's, and what training changed, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from nemo_cot.config import EvaluateConfig
from nemo_cot.evaluation.metrics import (
    Metric,
    bootstrap_interval,
    from_rows,
    majority_at_k,
    paired_difference,
    pass_at_1,
    pass_at_k,
    rates,
)
from nemo_cot.evaluation.outcomes import WRONG, Outcomes
from nemo_cot.records import Trace

STRICT_SOURCE = "boxed"
"""Strict correctness asks for the answer in a box; lenient takes it where the grader finds it."""


class Figure(msgspec.Struct):
    """A share between 0 and 1 with its interval over problems, and the counts behind it."""

    value: float
    low: float
    high: float
    count: int
    total: int


class SubjectScores(msgspec.Struct):
    """What was measured of one model. ``lenient_undecided_right`` bounds lenient from above."""

    problems: int
    samples: int
    lenient: Figure
    strict: Figure
    format_rate: Figure
    lenient_undecided_right: float
    nemo_skills_pass_at_1: float
    nemo_skills_majority: float
    pass_at_k: float
    majority_string: float
    majority_equivalence: float
    undecided: float
    no_answer: float
    finish_reasons: dict[str, float]
    mean_tokens: float


class Change(msgspec.Struct):
    """Trained minus base, paired by problem; shares between -1 and 1."""

    value: float
    low: float
    high: float
    p_value: float


class Scores(msgspec.Struct):
    """metrics.json. Undecided answers count as wrong and are reported beside."""

    samples_per_problem: int
    confidence: float
    subjects: dict[str, SubjectScores]
    learning_effect: dict[str, Change]


def score(graded: Mapping[str, Sequence[Trace]], config: EvaluateConfig) -> Scores:
    """Scores of every subject in ``graded`` (name: graded traces); the effect where both are there."""
    lenient = {name: _outcomes(rows) for name, rows in graded.items()}
    strict = {name: _keep_boxed(lenient[name], rows) for name, rows in graded.items()}
    effect = {}
    if {"base", "trained"} <= graded.keys():
        effect = {"lenient": _change(lenient, config), "strict": _change(strict, config)}
    return Scores(
        samples_per_problem=config.samples_per_problem,
        confidence=config.confidence,
        subjects={name: _subject(rows, lenient[name], strict[name], config) for name, rows in graded.items()},
        learning_effect=effect,
    )


def _subject(
    rows: Sequence[Trace], lenient: Outcomes, strict: Outcomes, config: EvaluateConfig
) -> SubjectScores:
    shares, k = rates(lenient), config.samples_per_problem
    boxed = _per_problem(rows, lenient.problem_ids)
    theirs = from_rows(map(msgspec.structs.asdict, rows), grader="nemo_skills")
    return SubjectScores(
        problems=len(lenient.problem_ids),
        samples=shares.samples,
        lenient=_figure(pass_at_1(lenient), len(rows), config),
        strict=_figure(pass_at_1(strict), len(rows), config),
        format_rate=_figure(boxed, len(rows), config),
        lenient_undecided_right=pass_at_1(lenient, undecided="right").value,
        nemo_skills_pass_at_1=pass_at_1(theirs).value,
        nemo_skills_majority=majority_at_k(theirs, k, vote="string").value,
        pass_at_k=pass_at_k(lenient, k).value,
        majority_string=majority_at_k(lenient, k, vote="string").value,
        majority_equivalence=majority_at_k(lenient, k, vote="equivalence").value,
        undecided=shares.undecided,
        no_answer=shares.no_answer,
        finish_reasons=shares.finish_reasons,
        mean_tokens=float(np.mean([row.num_generated_tokens for row in rows])),
    )


def _figure(metric: Metric, total: int, config: EvaluateConfig) -> Figure:
    low, high = bootstrap_interval(
        metric, resamples=config.bootstrap_resamples, confidence=config.confidence, seed=config.seed
    )
    return Figure(metric.value, low, high, round(metric.value * total), total)


def _change(outcomes: Mapping[str, Outcomes], config: EvaluateConfig) -> Change:
    difference = paired_difference(
        pass_at_1(outcomes["base"]),
        pass_at_1(outcomes["trained"]),
        resamples=config.bootstrap_resamples,
        confidence=config.confidence,
        seed=config.seed,
    )
    return Change(difference.value, difference.low, difference.high, difference.p_value)


def _outcomes(rows: Sequence[Trace]) -> Outcomes:
    return from_rows(map(msgspec.structs.asdict, rows))


def _keep_boxed(outcomes: Outcomes, rows: Sequence[Trace]) -> Outcomes:
    """The same outcomes with every answer that is not boxed counted as wrong."""
    verdicts = outcomes.verdicts.copy()
    boxed = _boxed(rows, outcomes.problem_ids)
    for index, flags in enumerate(boxed):
        verdicts[index, : len(flags)][~flags] = WRONG
    return Outcomes(outcomes.problem_ids, verdicts, outcomes.answers, outcomes.finish_reasons)


def _boxed(rows: Sequence[Trace], problem_ids: Sequence[str]) -> list[np.ndarray]:
    """For each problem, whether each of its samples (in numeric order) has a boxed answer."""
    flags: dict[str, list[bool]] = {name: [] for name in problem_ids}
    for row in sorted(rows, key=lambda row: row.sample):
        flags[row.problem_id].append(row.answer_source == STRICT_SOURCE)
    return [np.array(flags[name]) for name in problem_ids]


def _per_problem(rows: Sequence[Trace], problem_ids: tuple[str, ...]) -> Metric:
    means = np.array([flags.mean() for flags in _boxed(rows, problem_ids)])
    return Metric("format_rate", means, problem_ids, 0.0)


def as_builtins(scores: Scores) -> dict[str, Any]:
    """Plain dicts, for JSON and templates."""
    return msgspec.to_builtins(scores)
