"""Bootstrap over problems: the uncertainty of a figure, or of a difference between two runs.

Problems are drawn anew, with all their samples. That covers the choice of problems
and, as samples differ between problems, the sampling noise too; it is wider than the spread
between seeds that NeMo-Skills prints, which ignores the choice of problems. Many figures are
resampled at once with the same draws: a draw is a row of weights, so all means are one matrix product.

A share (pass@1, pass@k, maj@k, a rate) has the Bayesian bootstrap (Rubin 1981) with half a problem that is all
right and half a problem that is all wrong beside those that there are: weights from a Dirichlet distribution with
1 per problem and 1/2 for each of the two. Where every problem is all right or all wrong this is Jeffreys'
interval of a binomial proportion (Brown, Cai and DasGupta 2001), of which it also takes the modification: it never
ends below the exact bound for 0 of n problems, 1 - (tail)^(1/n), nor begins above that for n of n; and it
includes 0 where less than half a problem is right in all, 1 where less than half is wrong. The
percentile bootstrap, whose interval is [0, 0] where nothing is right, covers far less than it reports at
low rates: benchmarks/coverage.py, which also shows the alternatives.

Other figures (tokens) have the expanded percentile bootstrap (Hesterberg 2015), differences the plain one, but for
those that are the same on every problem (nothing right in both runs, say): see :func:`same_everywhere`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np

from nemo_cot.errors import UserError

_CHUNK = 500_000
"""Counts at a time: 4 MB for any number of problems."""
_NOTHING = 1e-12
"""Smaller differences count as 0: rounding in a sum of thirds."""
_PRIOR = 0.5
"""The weight of the problem that is all right, and of the one that is all wrong: Jeffreys' prior."""


class PerProblem(Protocol):
    """The input of an interval: see metrics.Metric."""

    name: str
    per_problem: np.ndarray
    problem_ids: tuple[str, ...]
    share: bool


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
    """Interval of the metric's mean over problems, by the module's docstring; problems with NaN are left out.

    A share's never has zero width, and its ends lie between 0 and 1; another figure's lie between the smallest
    and the largest value of any problem. The same seed gives the same interval. Raises UserError if no problem is left, ValueError for a confidence outside
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
        if metric.share and not (np.nanmin(metric.per_problem) >= 0 and np.nanmax(metric.per_problem) <= 1):
            raise ValueError(f"{metric.name} is no share: it lies outside of 0 to 1")
    columns = [metric.per_problem for metric in metrics]
    kinds = [metric.share for metric in metrics]
    return [
        mean_interval(draws, column[~np.isnan(column)], confidence, share=share)
        for draws, column, share in zip(resampled_means(columns, resamples, seed, kinds), columns, kinds)
    ]


def mean_interval(
    draws: np.ndarray, values: np.ndarray, confidence: float, *, share: bool
) -> tuple[float, float]:
    """The ends of the interval of the mean of ``values`` (one per problem) out of its ``draws``."""
    n, value = len(values), float(values.mean())
    if share:
        low, high = percentiles(draws, confidence)
        exact = 1 - ((1 - confidence) / 2) ** (1 / n)
        # Less than the prior's half a problem, right or wrong in all, does not exclude that there is none.
        low = low if n * value >= _PRIOR - _NOTHING else 0.0
        high = high if n * (1 - value) >= _PRIOR - _NOTHING else 1.0
        return max(0.0, min(low, value, 1 - exact)), min(1.0, max(high, value, exact))
    if n < 3:
        return percentiles(draws, confidence)
    # Where Student's t of n - 1 degrees would lie, were the spread of the draws normal: it is too narrow by
    # sqrt((n - 1) / n), and knows nothing of its own error.
    normal = NormalDist()
    point = math.sqrt(n / (n - 1)) * student_t(normal.inv_cdf((1 + confidence) / 2), n - 1)
    return percentiles(draws, 2 * normal.cdf(point) - 1)


def student_t(z: float, degrees: int) -> float:
    """The quantile of Student's t at which the normal's is ``z``: Abramowitz and Stegun 26.7.5, four terms."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, 1))


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
    shares = [first.share and second.share for first, second in pairs]
    return [
        _difference(change, means, confidence, share)
        for change, means, share in zip(columns, resampled_means(columns, resamples, seed), shares)
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


def _difference(change: np.ndarray, means: np.ndarray, confidence: float, share: bool) -> Difference:
    kept = change[~np.isnan(change)]
    low, high = (share and same_everywhere(kept, confidence)) or percentiles(means, confidence)
    return Difference(float(kept.mean()), low, high, two_sided(means), len(kept))


def same_everywhere(change: np.ndarray, confidence: float) -> tuple[float, float] | None:
    """The interval of a mean change of a share that is the same on all n problems; None for any other ``change`` [n].

    Up to 1 - (tail)^(1/n) of all problems may then change otherwise (the exact bound for 0 of n), by -1 to 1. A
    bootstrap would have no width here.
    """
    if np.ptp(change) > _NOTHING:
        return None
    others = 1 - ((1 - confidence) / 2) ** (1 / len(change))
    middle = (1 - others) * float(change.mean())
    return max(-1.0, middle - others), min(1.0, middle + others)


def two_sided(means: np.ndarray) -> float:
    """Twice the share of ``means`` on the rarer side of zero, at most 1; none of so many counts as one: no p-value is 0."""
    tail = min((means <= _NOTHING).mean(), (means >= -_NOTHING).mean())
    return float(min(1.0, 2 * max(tail, 1 / len(means))))


def resampled_means(
    columns: Sequence[np.ndarray], resamples: int, seed: int, shares: Sequence[bool] | None = None
) -> list[np.ndarray]:
    """For each column, its means over ``resamples`` draws of its problems without NaN, [resamples].

    ``shares``: which columns are shares, drawn with weights; none by default. Columns of one kind over the same
    problems share their draws, which start from ``seed``.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1")
    kinds = [False] * len(columns) if shares is None else shares
    groups: dict[tuple[bool, bytes], list[int]] = {}
    for index, (share, column) in enumerate(zip(kinds, columns)):
        groups.setdefault((share, np.isnan(column).tobytes()), []).append(index)
    means = [np.empty(0)] * len(columns)
    for (share, _), group in groups.items():
        values = np.stack([columns[i][~np.isnan(columns[i])] for i in group], axis=1)
        drawn = (_weights if share else _counts)(len(values), resamples, seed)
        found = np.concatenate([weights @ values + right[:, None] for weights, right in drawn])
        for position, index in enumerate(group):
            means[index] = found[:, position]
    return means


def _counts(problems: int, resamples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Share of each problem in draws of ``problems`` with replacement, float [draws, problems], and zeros [draws]."""
    generator = np.random.default_rng(seed)
    for rows in _chunks(problems, resamples):
        cells = generator.integers(0, problems, size=(rows, problems)) + problems * np.arange(rows)[:, None]
        counts = np.bincount(cells.ravel(), minlength=rows * problems)
        yield counts.reshape(rows, problems) / problems, np.zeros(rows)


def _weights(problems: int, resamples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Dirichlet weight of each problem, float [draws, problems], and of the problem that is all right, [draws]."""
    generator = np.random.default_rng(seed)
    for rows in _chunks(problems, resamples):
        drawn = generator.standard_exponential((rows, problems))
        right, wrong = generator.standard_gamma(_PRIOR, (2, rows))
        total = drawn.sum(axis=1) + right + wrong
        yield drawn / total[:, None], right / total


def _chunks(problems: int, resamples: int) -> Iterator[int]:
    """The numbers of draws to make at a time."""
    chunk = max(1, _CHUNK // problems)
    for start in range(0, resamples, chunk):
        yield min(chunk, resamples - start)


def percentiles(means: np.ndarray, confidence: float) -> tuple[float, float]:
    """The ends that leave equal shares of ``means`` outside."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
