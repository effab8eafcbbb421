"""Bootstrap over problems: the uncertainty of a figure, or of a difference between two runs.

Problems are drawn with replacement, with all their samples. That covers the choice of problems
and, as samples differ between problems, the sampling noise too; it is wider than the spread
between seeds that NeMo-Skills prints, which ignores the choice of problems. Many figures are
resampled at once with the same draws: a draw is a row of counts, so all means are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nemo_cot.errors import UserError

_CHUNK = 500_000
"""Counts at a time: 4 MB for any number of problems."""
_NOTHING = 1e-12
"""Smaller differences count as 0: rounding in a sum of thirds."""


class PerProblem(Protocol):
    """The input of an interval: see metrics.Metric."""

    name: str
    per_problem: np.ndarray
    problem_ids: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """``value``: mean over the common problems of (second - first), with its interval [low, high].

    ``p_value`` is two-sided: twice the share of resamples on the other side of zero.
    ``problems`` is the number of problems compared.
    """

    value: float
    low: float
    high: float
    p_value: float
    problems: int


def bootstrap_interval(
    metric: PerProblem, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the metric's mean over problems; problems with NaN are left out.

    Both ends lie between the smallest and the largest value of any problem. The same seed gives the
    same interval. Raises UserError if no problem is left, ValueError for a confidence outside
    (0, 1) or fewer than 1 resample.
    """
    return bootstrap_intervals([metric], resamples=resamples, confidence=confidence, seed=seed)[0]


def bootstrap_intervals(
    metrics: Sequence[PerProblem], *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> list[tuple[float, float]]:
    """:func:`bootstrap_interval` of each, for little more than the time of one."""
    for metric in metrics:
        if np.isnan(metric.per_problem).all():
            raise UserError(
                "no problem is left to resample", where=metric.name, fix="look at the undecided answers"
            )
    means = _means([metric.per_problem for metric in metrics], resamples, seed)
    return [_interval(column, confidence) for column in means]


def paired_difference(
    first: PerProblem, second: PerProblem, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Mean of (second - first) over the same problems, resampled in pairs.

    Problems are matched by id, in any order; a problem with NaN in either run is left out of both.
    Raises UserError if the two runs do not hold the same problems.
    """
    pair = [(first, second)]
    return paired_differences(pair, resamples=resamples, confidence=confidence, seed=seed)[0]


def paired_differences(
    pairs: Sequence[tuple[PerProblem, PerProblem]],
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Difference]:
    """:func:`paired_difference` of each (first, second), for little more than the time of one."""
    columns = [_change(first, second) for first, second in pairs]
    return [
        _difference(change, means, confidence)
        for change, means in zip(columns, _means(columns, resamples, seed))
    ]


def _change(first: PerProblem, second: PerProblem) -> np.ndarray:
    """Second minus first, problem by problem, float array [P]."""
    place = {name: i for i, name in enumerate(second.problem_ids)}
    if set(place) != set(first.problem_ids):
        odd = sorted(set(place) ^ set(first.problem_ids))
        raise UserError(
            f"{len(odd)} problems are in one run only, {odd[0]!r} first",
            where=f"{first.name} against {second.name}", fix="compare runs over the same problems",
        )  # fmt: skip
    change = second.per_problem[[place[name] for name in first.problem_ids]] - first.per_problem
    if np.isnan(change).all():
        raise UserError(
            "no problem is left to compare", where=first.name, fix="look at the undecided answers"
        )
    return change


def _difference(change: np.ndarray, means: np.ndarray, confidence: float) -> Difference:
    low, high = _interval(means, confidence)
    tail = min((means <= _NOTHING).mean(), (means >= -_NOTHING).mean())
    kept = change[~np.isnan(change)]
    return Difference(float(kept.mean()), low, high, float(min(1.0, 2 * tail)), len(kept))


def _means(columns: Sequence[np.ndarray], resamples: int, seed: int) -> list[np.ndarray]:
    """For each column, its means over ``resamples`` draws of its problems without NaN, [resamples].

    Columns over the same problems share their draws, which start from ``seed``.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1")
    groups: dict[bytes, list[int]] = {}
    for index, column in enumerate(columns):
        groups.setdefault(np.isnan(column).tobytes(), []).append(index)
    means = [np.empty(0)] * len(columns)
    for group in groups.values():
        values = np.stack([columns[i][~np.isnan(columns[i])] for i in group], axis=1)
        drawn = [counts @ values for counts in _counts(len(values), resamples, seed)]
        found = np.concatenate(drawn) / len(values)
        for position, index in enumerate(group):
            means[index] = found[:, position]
    return means


def _counts(problems: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Count of each problem in each draw of ``problems`` with replacement, float [draws, problems]."""
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // problems)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        cells = generator.integers(0, problems, size=(rows, problems)) + problems * np.arange(rows)[:, None]
        counts = np.bincount(cells.ravel(), minlength=rows * problems)
        yield counts.reshape(rows, problems).astype(float)


def _interval(means: np.ndarray, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
