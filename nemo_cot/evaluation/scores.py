"""The figures of one evaluation: those of each subject and the effect of training, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from nemo_cot.config import EvaluateConfig
from nemo_cot.evaluation.curves import SUBSETS, budget_curves, majority_curve, pass_curve, within
from nemo_cot.evaluation.graded_runs import METRICS, scores_folder
from nemo_cot.evaluation.intervals import bootstrap_intervals, paired_differences
from nemo_cot.evaluation.measures import (
    COMPARED,
    GradedRow,
    Readings,
    compared_metrics,
    finish_metrics,
    further_metrics,
    readings,
)
from nemo_cot.evaluation.metrics import Metric
from nemo_cot.io.json_file import read_json
from nemo_cot.stages import RunDirectory

POLICY = "wrong"
"""The verdict of undecided samples in every figure except lenient_undecided_right; recorded in metrics.json."""


class Figure(msgspec.Struct):
    """A mean over problems with its interval. A share lies between 0 and 1; mean_tokens is in tokens."""

    value: float
    low: float
    high: float


class CountedFigure(Figure):
    """A share of samples, and the counts behind it."""

    count: int
    total: int


class Point(Figure):
    """A figure at ``k`` samples per problem."""

    k: int


class BudgetPoint(Figure):
    """A figure where answers of more than ``tokens`` tokens count as cut."""

    tokens: int


class Figures(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The figures over a set of problems. ``lenient_undecided_right`` is an upper bound of lenient; ``chance``: pass@1 of
    guessing, where every problem has options to choose from.
    """

    problems: int
    samples: int
    lenient: CountedFigure
    strict: CountedFigure
    format_rate: CountedFigure
    lenient_undecided_right: CountedFigure
    nemo_skills_pass_at_1: CountedFigure
    nemo_skills_majority: Figure
    pass_at_k: Figure
    majority_string: Figure
    majority_equivalence: Figure
    undecided: CountedFigure
    no_answer: CountedFigure
    finish_reasons: dict[str, CountedFigure]
    mean_tokens: Figure
    chance: float | None = None


class Curves(msgspec.Struct):
    """Figures at k = 1, 2, 4, ... samples per problem; maj@k between the ends is estimated, see curves.py.

    ``majority_subsets``: subsets per problem and k. The last two are over evaluate.token_budgets.
    """

    pass_at_k: list[Point]
    majority_string: list[Point]
    majority_equivalence: list[Point]
    majority_subsets: int
    budget_pass_at_1: list[BudgetPoint] = []
    budget_majority: list[BudgetPoint] = []


class SubjectScores(Figures):
    """The figures of one model: over all problems, per subset_for_metrics, and over k."""

    subsets: dict[str, Figures]
    curves: Curves


class Change(msgspec.Struct):
    """Trained minus base, paired by problem; shares between -1 and 1."""

    value: float
    low: float
    high: float
    p_value: float


class StepPoint(Figure):
    """pass@1 (lenient) of the model after ``step`` steps of training; ``majority`` with all samples, by text."""

    step: int
    majority: Figure


class Scores(msgspec.Struct):
    """metrics.json. Undecided answers count as ``undecided_counted_as`` and are also reported separately."""

    samples_per_problem: int
    confidence: float
    bootstrap_resamples: int
    undecided_counted_as: str
    subjects: dict[str, SubjectScores]
    learning_effect: dict[str, Change]
    over_steps: list[StepPoint] = []


def read_scores(run: RunDirectory, name: str = "") -> Scores | None:
    """metrics.json of ``run`` on the held-out set ``name`` (empty: its own); None without one. Raises UserError for a
    damaged one: another version of the code may have written it.
    """
    folder = scores_folder(run, name)
    return read_json(folder / METRICS, Scores, fix=f"remove {folder} and run evaluate again; nothing is sampled again")


def score(
    graded: Mapping[str, Sequence[GradedRow]],
    config: EvaluateConfig,
    steps: Mapping[str, int] | None = None,
    within_budgets: Mapping[str, Mapping[int, Sequence[GradedRow]]] | None = None,
) -> Scores:
    """Scores of every subject in ``graded`` (name: graded traces); the effect if base and trained are among them.
    ``steps``: of those subjects that make a curve, how long they were trained. ``within_budgets``: by subject and
    budget, its samples graded by what they held until there; without them longer answers are wrong.
    """
    read = {name: readings(rows) for name, rows in graded.items()}
    compared = {name: compared_metrics(found, config.samples_per_problem) for name, found in read.items()}
    effect = {}
    if {"base", "trained"} <= graded.keys():
        effect = _changes(compared["base"], compared["trained"], config)
    subjects = {
        name: _subject(found, compared[name], config, (within_budgets or {}).get(name, {})) for name, found in read.items()
    }
    return Scores(
        samples_per_problem=config.samples_per_problem,
        confidence=config.confidence,
        bootstrap_resamples=config.bootstrap_resamples,
        undecided_counted_as=POLICY,
        subjects=subjects,
        learning_effect=effect,
        over_steps=[
            StepPoint(one.value, one.low, one.high, step, Figure(votes.value, votes.low, votes.high))
            for name, step in sorted((steps or {}).items(), key=lambda s: s[1])
            for one, votes in [(subjects[name].lenient, subjects[name].majority_string)]
        ],
    )


def _subject(
    read: Readings,
    compared: Mapping[str, Metric],
    config: EvaluateConfig,
    found: Mapping[int, Sequence[GradedRow]],
) -> SubjectScores:
    everything = np.arange(len(read.lenient.problem_ids))
    metrics, ended = {**compared, **further_metrics(read)}, finish_metrics(read.lenient)
    whole, *parts = (
        _figures(read, metrics, ended, places, config) for places in (everything, *read.subsets.values())
    )
    return SubjectScores(
        **whole,
        subsets={name: Figures(**part) for name, part in zip(read.subsets, parts)},
        curves=_curves(read, config, found),
    )


def _figures(
    read: Readings,
    metrics: Mapping[str, Metric],
    ended: Mapping[str, Metric],
    places: np.ndarray,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """The fields of Figures over the problems at ``places``."""
    counts = read.lenient.sample_counts[places]
    chosen = [metric.restricted(places) for metric in (*metrics.values(), *ended.values())]
    intervals = dict(zip([*metrics, *(("ended", reason) for reason in ended)], _intervals(chosen, config)))

    def counted(metric: Metric, figure: Figure) -> CountedFigure:
        count = round(float((metric.per_problem[places] * counts).sum()))
        return CountedFigure(figure.value, figure.low, figure.high, count, int(counts.sum()))

    wanted = {f.name: f.type for f in msgspec.structs.fields(Figures)}
    figures = {
        name: counted(metric, intervals[name]) if wanted[name] is CountedFigure else intervals[name]
        for name, metric in metrics.items()
    }
    reasons = {name: counted(metric, intervals["ended", name]) for name, metric in ended.items()}
    return {
        "problems": len(places),
        "samples": int(counts.sum()),
        "finish_reasons": reasons,
        "chance": read.chance_at(places),
        **figures,
    }


def _curves(read: Readings, config: EvaluateConfig, found: Mapping[int, Sequence[GradedRow]]) -> Curves:
    curves = {
        "pass_at_k": pass_curve(read.lenient),
        "majority_string": majority_curve(read.lenient, vote="string", seed=config.seed),
        "majority_equivalence": majority_curve(read.lenient, vote="equivalence", seed=config.seed),
    }
    by_budget = {budget: within(read.lenient, read.tokens, budget) for budget in config.token_budgets}
    by_budget |= {budget: readings(rows).lenient for budget, rows in found.items()}
    budgets = budget_curves(by_budget)
    kinds = {name: (Point, curve) for name, curve in curves.items()}
    kinds |= {name: (BudgetPoint, curve) for name, curve in zip(("budget_pass_at_1", "budget_majority"), budgets)}
    figures = iter(_intervals([metric for _, curve in kinds.values() for metric in curve.values()], config))
    points = {
        name: [kind(f.value, f.low, f.high, at) for at, f in zip(curve, figures)]
        for name, (kind, curve) in kinds.items()
    }
    return Curves(**points, majority_subsets=SUBSETS)


def _intervals(metrics: Sequence[Metric], config: EvaluateConfig) -> list[Figure]:
    ends = bootstrap_intervals(metrics, **config.intervals)
    return [Figure(metric.value, low, high) for metric, (low, high) in zip(metrics, ends)]


def _changes(
    first: Mapping[str, Metric], second: Mapping[str, Metric], config: EvaluateConfig
) -> dict[str, Change]:
    found = paired_differences([(first[key], second[key]) for key in COMPARED], **config.intervals)
    return {key: Change(d.value, d.low, d.high, d.p_value) for key, d in zip(COMPARED, found)}
