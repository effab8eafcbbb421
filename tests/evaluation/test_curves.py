"""Curves over k: against every subset counted out, exact at both ends, the same draws for everybody."""

import itertools

import numpy as np
import pytest

from nemo_cot.evaluation import votes
from nemo_cot.evaluation.curves import SUBSETS, curve_sizes, majority_curve, pass_curve
from nemo_cot.evaluation.metrics import majority_at_k, pass_at_1, pass_at_k
from tests.evaluation.test_metrics import R, U, W, outcomes

PROBLEM = [("1/2", R), (r"\frac12", R), ("7", W), ("7", W), (None, W), ("", W), ("9", W), ("?", U)]


def counted_out(samples, k, vote):
    """maj@k over every subset of the samples."""
    subsets = list(itertools.combinations(samples, k))
    return np.mean([majority_at_k(outcomes(s), k, vote=vote).value for s in subsets])


@pytest.mark.parametrize(("samples", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])])  # fmt: skip
def test_sizes_double_and_end_with_all_samples(samples, sizes):
    assert curve_sizes(samples) == sizes
    with pytest.raises(ValueError, match="samples is 0"):
        curve_sizes(0)


@pytest.mark.parametrize("vote", ["string", "equivalence"])
def test_the_expected_majority_is_that_over_all_subsets(vote):
    curve = majority_curve(outcomes(*[PROBLEM] * 3), vote=vote)
    for k in (1, 8):
        assert curve[k].value == pytest.approx(counted_out(PROBLEM, k, vote)), "exact at both ends"
    for k in (2, 4):
        exact = counted_out(PROBLEM, k, vote)
        assert curve[k].value == pytest.approx(exact, abs=3 * 0.5 / SUBSETS**0.5)
        over_seeds = [majority_curve(outcomes(PROBLEM), vote=vote, seed=s)[k].value for s in range(40)]
        assert np.mean(over_seeds) == pytest.approx(exact, abs=3 * 0.5 / (40 * SUBSETS) ** 0.5), "unbiased"


def test_the_ends_are_pass_at_1_and_the_majority_of_all():
    draw = np.random.default_rng(0)
    o = outcomes(*[[(str(a), R if a == 0 else W) for a in draw.integers(0, 4, 7)] for _ in range(20)])
    for vote in ("string", "equivalence"):
        curve = majority_curve(o, vote=vote)
        assert list(curve) == [1, 2, 4, 7] == list(pass_curve(o))
        np.testing.assert_allclose(curve[1].per_problem, pass_at_1(o).per_problem)
        np.testing.assert_array_equal(curve[7].per_problem, majority_at_k(o, 7, vote=vote).per_problem)
    assert pass_curve(o)[4].value == pass_at_k(o, 4).value


def test_the_same_draws_for_every_problem_and_seed():
    problem = [(str(a), R if a == 1 else W) for a in (1, 1, 2, 2, 3, 1, 2, 4, 1)]
    curve = majority_curve(outcomes(problem, problem), seed=5)
    assert (curve[4].per_problem[0] == curve[4].per_problem[1]) and 0 < curve[4].value < 1
    assert majority_curve(outcomes(problem), seed=5)[4].value == curve[4].value
    assert majority_curve(outcomes(problem), seed=6)[4].value != curve[4].value


@pytest.mark.parametrize("vote", ["string", "equivalence"])
def test_counting_in_pieces_changes_nothing(vote, monkeypatch):
    draw = np.random.default_rng(1)
    o = outcomes(*[[(str(a), R if a == 0 else W) for a in draw.integers(0, 4, 9)] for _ in range(5)])
    whole = majority_curve(o, vote=vote)
    for cells in (1, SUBSETS * 9 * 2):  # one problem at a time, and two
        monkeypatch.setattr(votes, "_CELLS", cells)
        pieces = majority_curve(o, vote=vote)
        for k, metric in whole.items():
            np.testing.assert_array_equal(pieces[k].per_problem, metric.per_problem)


def test_unequal_sample_counts_end_at_the_smallest():
    few, many = [("5", R)] * 2, [("5", R), *[("6", W)] * 4]
    curve = majority_curve(outcomes(few, many, few))
    assert list(curve) == [1, 2]
    assert curve[1].per_problem.tolist() == [1.0, 0.2, 1.0], "one of the five samples, not the first"
    exact = counted_out(many, 2, "string")
    assert curve[2].per_problem[[0, 2]].tolist() == [1.0, 1.0]
    assert curve[2].per_problem[1] == pytest.approx(exact, abs=3 * 0.5 / SUBSETS**0.5)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="vote is"):
        majority_curve(outcomes(PROBLEM), vote="best")
