"""Several runs per variant: what is the recipe's, and what is one run's luck.

A variant's figure is the mean over its repeats and problems. Its interval is a hierarchical bootstrap over both:

- problems are drawn as in :mod:`nemo_cot.evaluation.intervals`, all repeats with the same draw, for they share
  the problems;
- repeats (three, not three hundred) cannot be drawn with replacement: of G of them, that shows (G - 1) / G of their
  variance, and none of its own error. So a draw adds sqrt(max(0, MS* - MS_rest) v / (G P)) times a normal number.
  The mean squares are those of a two-way analysis of variance, repeats x problems, pooled over all variants of
  the study, each over its v = p (1 - p): a share varies more in the middle than at the ends. MS* is
  MS_repeats times its degrees of freedom over a chi-square number of as many (a generalized pivot, Weerahandi 1993),
  so that the error of MS_repeats counts too: with one variant this is near Student's interval of G - 1 degrees, which
  for two repeats is of no use; ten variants of two repeats share ten. Where nothing is repeated, nothing is added.

Repeats that share the value of the first seed that varies (selection, then training, then sampling) are one: two
trainings on the same traces tell nothing new about the choice of traces. One model that no such seed reaches (the base) is
no sample of their luck: it adds no degree of freedom, has none of it, and stands as it is beside every repeat of others.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from nemo_cot.evaluation.intervals import (
    mean_interval,
    percentiles,
    resampled_means,
    same_everywhere,
    two_sided,
)

POWER = 0.8
"""The chance of seeing the smallest difference that a study reports as detectable."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; ``p_value``: two-sided, of the mean being zero; ``detectable``: the smallest mean
    that would have been distinguished from zero with :data:`POWER`, at the level of the first step of Holm's procedure.
    """

    value: float
    low: float
    high: float
    p_value: float = 1.0
    detectable: float = float("nan")


def grouped(values: np.ndarray, decides: Sequence[Hashable]) -> np.ndarray:
    """Mean over the repeats that count as one: float [repeats, P] to [groups, P]. ``decides``: what each has of the first
    seed that varies.
    """
    return np.stack([values[[other == one for other in decides]].mean(axis=0) for one in dict.fromkeys(decides)])


def repeated_means(
    columns: Sequence[np.ndarray], *, share: bool, resamples: int, confidence: float, seed: int,
    lucky: Sequence[bool] | None = None,
) -> list[Estimate]:
    """The mean of each of ``columns`` (float [G, P], G may differ), as one variant each. ``lucky``: which have the luck of
    runs (None: all): one model, which no seed changes, has G = 1 and none.
    """
    found = []
    scales = [_variance_of(column, column.shape[1]) if share else 1.0 for column in columns]
    own = [column / np.sqrt(scale) for column, scale in zip(columns, scales)]
    scales = [scale * has_luck for scale, has_luck in zip(scales, lucky or [True] * len(columns))]
    for column, draws in zip(columns, _draws(columns, scales, share, resamples, seed, own)):
        low, high = mean_interval(draws, column.mean(axis=0), confidence, share=share)
        found.append(Estimate(float(column.mean()), low, high))
    return found


def repeated_differences(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    share: bool,
    resamples: int,
    confidence: float,
    seed: int,
    lucky: Sequence[tuple[bool, bool]] | None = None,
) -> list[Estimate]:
    """The mean of second minus first of each of ``pairs``, paired by repeat and problem, float [G, P] both; of a share
    within -1 to 1. ``lucky``: which sides have the luck of runs (None: all); one model has none, and stands in all G rows.
    """
    columns = [second - first for first, second in pairs]
    variances = [
        [(_variance_of(side, side.shape[1]) if share else 0.5) * has_luck for side, has_luck in zip(pair, both)]
        for pair, both in zip(pairs, lucky or [(True, True)] * len(pairs))
    ]
    drawn = _draws(columns, [sum(own) for own in variances], False, resamples, seed, _independent(pairs, variances))
    found = []
    level = (1 - confidence) / max(1, len(columns))
    for column, draws in zip(columns, drawn):
        low, high = percentiles(draws, confidence)
        if share:
            same = same_everywhere(column.mean(axis=0), confidence) or (low, high)  # beside the luck of the runs
            low, high = max(-1.0, min(low, same[0])), min(1.0, max(high, same[1]))
        seen, power = np.quantile(np.abs(draws - np.median(draws)), [1 - level, 2 * POWER - 1])
        found.append(Estimate(float(column.mean()), low, high, two_sided(draws), float(seen + power)))
    return found


def _variance_of(values: np.ndarray, problems: int) -> float:
    """p (1 - p) of the mean of a share, which half a right and half a wrong problem keep from 0."""
    mean = (float(values.mean()) * problems + 0.5) / (problems + 1)
    return mean * (1 - mean)


def _independent(pairs: Sequence[tuple[np.ndarray, np.ndarray]], variances: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """The differences, float [G, P] each, without what those to the same baseline have in common, over their v.

    Their covariance is C = diag(v of the variants) + v of the baseline: they are turned onto its eigenvectors, each over the
    root of its eigenvalue. One that is 0 has no luck to show: of two models without any, the differences share all of it.
    """
    of_baseline: dict[bytes, list[int]] = {}
    for place, (first, _) in enumerate(pairs):
        of_baseline.setdefault(first.tobytes(), []).append(place)
    found: list[np.ndarray] = []
    for places in of_baseline.values():
        stacked = np.stack([pairs[place][1] - pairs[place][0] for place in places])
        covariance = np.diag([variances[place][1] for place in places]) + variances[places[0]][0]
        sizes, directions = np.linalg.eigh(covariance)
        there = sizes > 1e-9
        found += list(np.tensordot((directions[:, there] / np.sqrt(sizes[there])).T, stacked, axes=1))
    return found


def _draws(
    columns: Sequence[np.ndarray], scales: Sequence[float], share: bool, resamples: int, seed: int,
    independent: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Per column the drawn means, float [resamples]; the same problems for all, and repeats of its own for each.
    ``independent``: what the mean squares are pooled over, each over its v, float [G, P].
    """
    generator = np.random.default_rng([seed, 1])
    means = resampled_means([c.mean(axis=0) for c in columns], resamples, seed, [share] * len(columns))
    squares = [_sums_of_squares(one) for one in independent if min(one.shape) > 1]
    if not squares:
        return means
    of_repeats, degrees, of_rest, rest_degrees = np.sum(squares, axis=0)
    excess = of_repeats / generator.chisquare(degrees, resamples) - of_rest / rest_degrees
    luck = np.sqrt(np.maximum(0.0, excess))
    return [
        drawn + luck * np.sqrt(scale / column.size) * generator.standard_normal(resamples)
        for column, scale, drawn in zip(columns, scales, means)
    ]


def _sums_of_squares(values: np.ndarray) -> tuple[float, int, float, int]:
    """Of the repeats and of the rest, each with its degrees of freedom, for ``values`` [G, P]."""
    count, problems = values.shape
    rows = values.mean(axis=1)
    rest = values - rows[:, None] - values.mean(axis=0) + values.mean()
    of_repeats = problems * float(((rows - rows.mean()) ** 2).sum())
    of_rest = float((rest**2).sum())
    return of_repeats, count - 1, of_rest, (count - 1) * (problems - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down procedure (1979): any of them below the level is
    then a false alarm with at most that chance, however they depend on each other.
    """
    found, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        found[place] = worst
    return found


@dataclass(frozen=True)
class RunMean:
    """One run's figure: its mean over problems, the seeds of its repeat, and the variance that sampling alone gives
    that mean (None where it cannot be computed from one run).
    """

    mean: float
    seeds: tuple[int, ...]
    sampling: float | None


def sampling_variance(values: np.ndarray, counts: np.ndarray) -> float:
    """Variance of a mean over problems of shares of right samples, from the samples: the sum of
    p (1 - p) / (k - 1) over problems, by P squared. ``values`` p and ``counts`` k, [P]; NaN with single samples.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        each = values * (1 - values) / (counts - 1)
    return float(each.sum() / len(values) ** 2)


def variance_components(variants: Sequence[Sequence[RunMean]], sources: Sequence[str]) -> dict[str, float]:
    """What part of the variance of one run's figure, on these problems, comes from which of ``sources``.

    A nested analysis of variance (training within selection, sampling within training), pooled over the variants.
    Sources that never vary alone are one, joined by " + ". Where the sampling is not repeated by itself and its
    variance is known from the samples, it is taken out of the innermost. Returns variances, not below 0, by name.
    """
    labels, depth = _levels(variants, sources)
    found: dict[str, float] = {}
    inner = 0.0
    for place in reversed(range(len(labels))):
        above = depth[place - 1] if place else 0
        variance, siblings = _between(variants, above, depth[place])
        found[labels[place]] = max(0.0, variance - inner)
        inner = variance / siblings
    known = [run.sampling for runs in variants for run in runs]
    if labels and labels[-1] != _SAMPLING and known and None not in known and np.isfinite(known).all():
        noise, last = float(np.mean(known)), labels[-1]
        rest = " + ".join(name for name in last.split(" + ") if name != _SAMPLING)
        found[rest] = max(0.0, found.pop(last) - noise)
        found[_SAMPLING] = noise
    return found


_SAMPLING = "sampling"


def _levels(variants: Sequence[Sequence[RunMean]], sources: Sequence[str]) -> tuple[list[str], list[int]]:
    """The names of the nested levels, and for each how many of the seeds tell its groups apart."""
    labels: list[str] = []
    depth: list[int] = []
    before = len(variants)
    for place, source in enumerate(sources, start=1):
        if all(len({run.seeds[place - 1] for run in runs}) < 2 for runs in variants):
            continue
        count = sum(len({run.seeds[:place] for run in runs}) for runs in variants)
        if count > before:
            labels.append(source)
            depth.append(place)
        else:  # each group above has one value of this seed: the two cannot be told apart
            labels[-1] += f" + {source}"
            depth[-1] = place
        before = count
    return labels, depth


def _between(variants: Sequence[Sequence[RunMean]], above: int, own: int) -> tuple[float, float]:
    """Pooled variance between the means of groups (of runs with the same first ``own`` seeds) that share their
    first ``above`` seeds, and the harmonic mean of the number of such siblings.
    """
    squares, degrees, shares = 0.0, 0, []
    for runs in variants:
        families: dict[tuple[int, ...], dict[tuple[int, ...], list[float]]] = {}
        for run in runs:
            families.setdefault(run.seeds[:above], {}).setdefault(run.seeds[:own], []).append(run.mean)
        for family in families.values():
            means = np.array([np.mean(group) for group in family.values()])
            squares += float(((means - means.mean()) ** 2).sum())
            degrees += len(means) - 1
            shares.append(1 / len(means))
    return (squares / degrees if degrees else 0.0), 1 / float(np.mean(shares))
