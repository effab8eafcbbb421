"""What figures are made of: graded samples without their texts, and the figures that only reports show."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean, median
from typing import Any

import numpy as np

from nemo_cot.evaluation.curves import within
from nemo_cot.evaluation.graded_runs import GradedSample
from nemo_cot.evaluation.intervals import bootstrap_intervals
from nemo_cot.evaluation.measures import readings
from nemo_cot.evaluation.metrics import pass_at_1
from nemo_cot.evaluation.repeats import POWER
from nemo_cot.evaluation.scores import Point, Scores
from nemo_cot.records import TraceLoss
from nemo_cot.report.results import Disagreement, Histogram, LengthSummary, ProblemRow, TraceCurve

_BINS = 24


def rates(rows: Sequence[GradedSample]) -> dict[str, float]:
    """By problem, the share of samples that are right."""
    found: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        found[row.problem_id].append(row.verdict == "right")
    return {problem: sum(right) / len(right) for problem, right in found.items()}


def smallest_difference(
    first: Mapping[str, float], second: Mapping[str, float], confidence: float
) -> float | None:
    """The smallest true difference of the two means over problems that a paired comparison shows with a power
    of 80 %.

    (z(1 - alpha / 2) + z(0.8)) s / sqrt(n), with s the standard deviation of the n paired differences
    (Miller 2024, arXiv 2411.00640, section 5). None for fewer than 3 common problems.
    """
    differences = [second[p] - first[p] for p in first if p in second]
    if len(differences) < 3:
        return None
    normal = NormalDist()
    quantiles = normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(POWER)
    return float(quantiles * np.std(differences, ddof=1) / math.sqrt(len(differences)))


def problem_rows(samples: Mapping[str, Sequence[GradedSample]], pair: Sequence[str]) -> list[ProblemRow]:
    """The problems of the ``pair``, the largest gain first."""
    shares = {name: rates(samples[name]) for name in pair}
    shown: dict[str, dict[str, GradedSample]] = {name: {} for name in pair}
    subsets: dict[str, str | None] = {}
    for name in pair:
        for row in samples[name]:
            subsets.setdefault(row.problem_id, row.subset_for_metrics)
            best = shown[name].get(row.problem_id)
            if best is None or (row.verdict == "right" and best.verdict != "right"):
                shown[name][row.problem_id] = row
    rows = [
        ProblemRow(
            problem,
            subset,
            {name: shares[name][problem] for name in pair if problem in shares[name]},
            {name: shown[name][problem].sample for name in pair if problem in shown[name]},
        )
        for problem, subset in subsets.items()
    ]
    return sorted(rows, key=lambda row: (-gain(row, pair), row.problem_id))


def gain(row: ProblemRow, pair: Sequence[str]) -> float:
    """How much the second of the pair got right more than the first."""
    return row.right.get(pair[-1], 0.0) - row.right.get(pair[0], 0.0)


def token_budgets(samples: Mapping[str, Sequence[GradedSample]], scores: Scores) -> dict[str, list[Point]]:
    """pass@1 over a budget of tokens, by subject: the scores' own curve (evaluate.token_budgets), or else that of
    :func:`nemo_cot.evaluation.curves.within` at twelve even steps up to the longest answer. No samples are drawn.
    """
    own = {name: one.curves.budget_pass_at_1 for name, one in scores.subjects.items()}
    if any(own.values()):
        return {name: [Point(p.value, p.low, p.high, p.tokens) for p in points] for name, points in own.items()}
    longest = max((row.num_generated_tokens for rows in samples.values() for row in rows), default=0)
    budgets = sorted({math.ceil(longest * share / 12) for share in range(1, 13)} - {0})
    found = {}
    for name, rows in samples.items():
        read = readings(rows)
        metrics = [pass_at_1(within(read.lenient, read.tokens, budget)) for budget in budgets]
        ends = bootstrap_intervals(metrics, resamples=scores.bootstrap_resamples, confidence=scores.confidence)
        found[name] = [Point(m.value, low, high, b) for m, (low, high), b in zip(metrics, ends, budgets)]
    return found


def on_problems(
    samples: Mapping[str, Sequence[Any]], pair: list[str], confidence: float, lengths: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """The fields of :class:`OnProblems` of the graded ``samples`` by subject or run; ``lengths`` in tokens by group."""
    shares = [rates(samples[name]) for name in pair]
    return {
        "sensitivity": smallest_difference(*shares, confidence) if len(pair) == 2 else None,
        "pair": pair,
        "problems": problem_rows(samples, pair),
        "lengths": histogram("tokens per answer", "tokens", lengths),
        "length_summaries": {name: summary(values) for name, values in lengths.items()},
    }


def histogram(
    name: str, unit: str, groups: Mapping[str, Sequence[float]], bins: int = _BINS
) -> Histogram | None:
    """Shares of each group over common bins, None without values. The axis ends at the 99.5th percentile, and
    the last bin holds what is beyond, so that one long sample does not squeeze all others.
    """
    groups = {label: values for label, values in groups.items() if len(values)}
    if not groups:
        return None
    everything = np.concatenate([np.asarray(values, float) for values in groups.values()])
    low, high = float(everything.min()), float(np.quantile(everything, 0.995, method="higher"))
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    shares = {
        label: (np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)).tolist()
        for label, values in groups.items()
    }
    return Histogram(
        name, unit, edges.tolist(), shares, {label: fmean(values) for label, values in groups.items()}
    )


def summary(values: Sequence[int]) -> LengthSummary:
    """Of the lengths of one group."""
    return LengthSummary(len(values), min(values), median(values), fmean(values), max(values))


def disagreements(samples: Mapping[str, Sequence[Any]]) -> list[Disagreement]:
    """Samples on which NeMo-Skills' rule and our grader differ."""
    return [
        Disagreement(
            name, row.problem_id, row.sample, row.expected_answer, row.verdict or "", row.verdict_reason or "",
            row.predicted_answer or "none", row.nemo_skills_answer or "none", row.symbolic_correct,
        )
        for name, rows in samples.items()
        for row in rows
        if row.symbolic_correct is not None and row.symbolic_correct != (row.verdict == "right")
    ]  # fmt: skip


def trace_curves(rows: Sequence[TraceLoss]) -> list[TraceCurve]:
    """By trace; the one that is learned first comes first."""
    found: dict[tuple[str, int], dict[int, TraceLoss]] = defaultdict(dict)
    for row in rows:
        found[row.problem_id, row.sample][row.step] = row
    curves = []
    for (problem, sample), by_step in found.items():
        steps = sorted(by_step)
        losses = [by_step[step].loss for step in steps]
        learned = next((step for step, loss in zip(steps, losses) if loss <= losses[0] / 2), None)
        accuracies = [by_step[step].token_accuracy for step in steps]
        tokens = by_step[steps[0]].tokens
        curves.append(TraceCurve(f"{problem}, {sample}", tokens, steps, losses, accuracies, learned))
    return sorted(curves, key=lambda curve: (curve.learned is None, curve.learned or 0, curve.losses[-1]))
