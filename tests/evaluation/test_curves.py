"""Curves over k: against every subset counted out, exact at both ends, the same draws for everybody."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_cot.evaluation import votes
from nemo_cot.evaluation.curves import SUBSETS, budget_curves, curve_sizes, majority_curve, pass_curve, within
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


# ---- over a budget of tokens


def over(found, tokens, budgets):
    return budget_curves({budget: within(found, tokens, budget) for budget in budgets})


def test_an_answer_of_more_tokens_than_the_budget_is_wrong_and_has_no_vote():
    """By hand: of the first problem 5 and 9 tokens are right, 7 is wrong; of the second 4 is undecided, 6 right."""
    found = outcomes([("2", R), ("3", W), ("2", R)], [("?", U), ("4", R)])
    passed, voted = over(found, [np.array([5, 7, 9]), np.array([4, 6])], [4, 5, 8, 9])
    assert [list(metric.per_problem) for metric in passed.values()] == [
        pytest.approx([0, 0]), pytest.approx([1 / 3, 0]), pytest.approx([1 / 3, 0.5]), pytest.approx([2 / 3, 0.5]),
    ]  # fmt: skip
    assert [metric.per_problem[0] for metric in voted.values()] == [0, 1, 0.5, 1], "2; 2 against 3; 2, 3, 2"


@given(st.lists(st.lists(st.tuples(st.sampled_from([R, W, U]), st.integers(1, 30)), min_size=1, max_size=5), min_size=1, max_size=4))
def test_a_larger_budget_never_loses_a_right_answer_and_the_largest_is_none(problems):
    found = outcomes(*[[(str(n), verdict) for n, (verdict, _) in enumerate(rows)] for rows in problems])
    passed, voted = over(found, [np.array([n for _, n in rows]) for rows in problems], range(31))
    values = np.stack([metric.per_problem for metric in passed.values()])
    assert (np.diff(values, axis=0) >= 0).all() and not values[0].any()
    np.testing.assert_array_equal(values[-1], pass_at_1(found).per_problem)
    np.testing.assert_array_equal(voted[30].per_problem, majority_at_k(found, None).per_problem)
