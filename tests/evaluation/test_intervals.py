"""Intervals of shares: Jeffreys' where problems are all or nothing, never of zero width, covering at low rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.evaluation.intervals import (
    bootstrap_interval,
    bootstrap_intervals,
    paired_difference,
    student_t,
)
from nemo_cot.evaluation.metrics import Metric

shares = st.lists(st.sampled_from([0.0, 0.0, 0.125, 0.5, 1.0]), min_size=1, max_size=40)


def metric(values, share=True):
    return Metric("m", np.array(values, float), tuple(map(str, range(len(values)))), 0.0, share)


def beta_quantile(a: float, b: float, level: float) -> float:
    """By adding up the density, in the scale in which it has no poles: x = sin(t)^2."""
    t = np.linspace(0, math.pi / 2, 200_001)[1:-1]
    density = np.exp((2 * a - 1) * np.log(np.sin(t)) + (2 * b - 1) * np.log(np.cos(t)))
    total = np.cumsum(density)
    return float(np.sin(np.interp(level, total / total[-1], t)) ** 2)


@pytest.mark.parametrize(("right", "problems"), [(2, 30), (15, 30), (29, 30), (1, 5), (60, 256)])
def test_of_problems_that_are_all_or_nothing_it_is_that_of_jeffreys(right, problems):
    low, high = bootstrap_interval(metric([1.0] * right + [0.0] * (problems - right)), resamples=40_000)
    expected = [beta_quantile(right + 0.5, problems - right + 0.5, level) for level in (0.025, 0.975)]
    exact = 1 - 0.025 ** (1 / problems)
    assert low == pytest.approx(min(expected[0], 1 - exact), abs=0.004)
    assert high == pytest.approx(max(expected[1], exact), abs=0.004)


@pytest.mark.parametrize("problems", [1, 2, 30, 256])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_nothing_right_has_the_exact_bound_and_all_right_its_mirror_image(problems, confidence):
    exact = 1 - ((1 - confidence) / 2) ** (1 / problems)
    low, high = bootstrap_interval(metric([0.0] * problems), confidence=confidence)
    assert low == 0 and high == pytest.approx(exact, abs=1e-12)
    low, high = bootstrap_interval(metric([1.0] * problems), confidence=confidence)
    assert high == 1 and low == pytest.approx(1 - exact, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(shares)
def test_a_share_lies_within_an_interval_of_some_width(values):
    low, high = bootstrap_interval(metric(values), resamples=300)
    assert 0 <= low <= np.mean(values) <= high <= 1 and high - low > 0.01


@settings(max_examples=25, deadline=None)
@given(shares)
def test_right_and_wrong_are_mirror_images(values):
    low, high = bootstrap_interval(metric(values), resamples=8000)
    back_low, back_high = bootstrap_interval(metric([1 - v for v in values]), resamples=8000)
    assert (1 - back_high, 1 - back_low) == pytest.approx((low, high), abs=0.03)


def test_less_than_half_a_problem_in_all_does_not_exclude_none():
    nearly = [0.99] * 10 + [1.0] * 20
    assert bootstrap_interval(metric(nearly))[1] == 1 and bootstrap_interval(metric([1 - v for v in nearly]))[0] == 0
    # In floats 5 * (1 - 0.9) is less than 0.5, and so is 49 * (0.5 / 49).
    for right in ([0.9] * 10 + [1.0] * 20, [1.0] + [0.875] * 4, [0.5] + [1.0] * 48):
        assert bootstrap_interval(metric(right))[1] < 1
        assert bootstrap_interval(metric([1 - v for v in right]))[0] > 0


def test_a_problem_left_out_counts_for_nothing():
    with_nan = Metric("m", np.array([0.0, np.nan, 1.0]), ("a", "b", "c"), 0.0)
    assert bootstrap_interval(with_nan) == bootstrap_interval(metric([0.0, 1.0]))


def test_what_is_no_share_is_refused_as_one_and_has_an_interval_of_its_own():
    with pytest.raises(ValueError, match="no share"):
        bootstrap_interval(metric([12.0, 40.0]))
    tokens = metric([10.0, 20.0, 30.0, 60.0] * 3, share=False)
    low, high = bootstrap_interval(tokens, resamples=20_000)
    half = 2.201 * np.std(tokens.per_problem, ddof=1) / math.sqrt(12)  # Student's, 11 degrees
    assert (high - low) / 2 == pytest.approx(half, rel=0.06) and low < 30 < high
    assert bootstrap_interval(metric([5.0, 5.0, 5.0], share=False)) == (5.0, 5.0)


@pytest.mark.parametrize(("degrees", "expected"), [(4, 2.776), (9, 2.262), (29, 2.045), (255, 1.969)])
def test_quantiles_of_students_t(degrees, expected):
    assert student_t(1.959964, degrees) == pytest.approx(expected, abs=0.004)


@pytest.mark.parametrize(("problems", "samples", "rate"), [(30, 8, 0.02), (30, 64, 0.02), (30, 8, 0.4)])
def test_it_covers_where_the_percentile_bootstrap_did_not(problems, samples, rate):
    """The percentiles cover 70 %, 55 % and 92 % of these; benchmarks/coverage.py has the whole table."""
    draw = np.random.default_rng(1)
    chances = draw.beta(rate, 1 - rate, size=(500, problems))
    metrics = [metric(row) for row in draw.binomial(samples, chances) / samples]
    ends = np.array(bootstrap_intervals(metrics, resamples=1000))
    covered = ((ends[:, 0] <= rate) & (rate <= ends[:, 1])).mean()
    assert 0.92 <= covered <= 0.995


@pytest.mark.parametrize("change", [-1.0, -0.5, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("problems", [1, 30, 256])
def test_a_difference_that_is_the_same_everywhere_has_the_exact_bound(change, problems):
    first, second = max(0.0, -change), max(0.0, change)
    found = paired_difference(metric([first] * problems), metric([second] * problems))
    others = 1 - 0.025 ** (1 / problems)  # of the problems, changing by anything from -1 to 1
    assert found.value == change
    assert found.low == pytest.approx(max(-1, (1 - others) * change - others))
    assert found.high == pytest.approx(min(1, (1 - others) * change + others))


def test_one_problem_that_changes_otherwise_is_the_bootstraps_and_tokens_have_no_bound():
    nearly = paired_difference(metric([0.0] * 30), metric([0.0] * 29 + [1.0]))
    assert (nearly.low, nearly.high) == (0.0, 0.1)
    tokens = paired_difference(metric([5.0] * 3, share=False), metric([9.0] * 3, share=False))
    assert (tokens.low, tokens.high) == (4.0, 4.0)
