"""Bootstrap over problems: how far a figure, or a difference between two runs, would move.

Problems are drawn with replacement, with all their samples. That covers the choice of problems
and, as samples differ between problems, the sampling noise too; it is wider than the spread
between seeds that NeMo-Skills prints, which ignores the choice of problems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nemo_cot.errors import UserError

_CHUNK = 2000
"""Resamples at a time: 2000 x 256 indices take 4 MB."""


class PerProblem(Protocol):
    """What an interval is computed of: see metrics.Metric."""

    name: str
    per_problem: np.ndarray
    problem_ids: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """``value``: mean over the common problems of (second - first), with its interval [low, high].

    ``p_value`` is two-sided: how often a resample lies on the other side of zero, doubled.
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
    """Percentile interval of the metric's mean over problems; NaN problems are left out.

    Both ends lie between 0 and 1. The same seed gives the same interval. Raises UserError if no
    problem is left, ValueError for a confidence outside (0, 1) or fewer than 1 resample.
    """
    values = metric.per_problem[~np.isnan(metric.per_problem)]
    if not len(values):
        raise UserError(
            "no problem is left to resample", where=metric.name, fix="look at the undecided answers"
        )
    low, high = _interval(_means(values, resamples, seed), confidence)
    return low, high


def paired_difference(
    first: PerProblem, second: PerProblem, *, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Mean of (second - first) over the same problems, resampled in pairs.

    Problems are matched by id, in any order; one that is NaN in either run is left out of both.
    Raises UserError if the two runs do not hold the same problems.
    """
    place = {name: i for i, name in enumerate(second.problem_ids)}
    if set(place) != set(first.problem_ids):
        odd = sorted(set(place) ^ set(first.problem_ids))
        raise UserError(
            f"{len(odd)} problems are in one run only, {odd[0]!r} first",
            where=f"{first.name} against {second.name}", fix="compare runs over the same problems",
        )  # fmt: skip
    change = second.per_problem[[place[name] for name in first.problem_ids]] - first.per_problem
    change = change[~np.isnan(change)]
    if not len(change):
        raise UserError(
            "no problem is left to compare", where=first.name, fix="look at the undecided answers"
        )
    means = _means(change, resamples, seed)
    low, high = _interval(means, confidence)
    tail = min((means <= 0).mean(), (means >= 0).mean())
    return Difference(float(change.mean()), low, high, float(min(1.0, 2 * tail)), len(change))


def _means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of ``resamples`` draws of len(values) problems with replacement, float array [resamples]."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1")
    return np.concatenate([values[draw].mean(axis=1) for draw in _draws(len(values), resamples, seed)])


def _draws(problems: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        yield generator.integers(0, problems, size=(min(_CHUNK, resamples - start), problems))


def _interval(means: np.ndarray, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
