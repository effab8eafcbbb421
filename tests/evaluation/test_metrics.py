"""Metrics: the worked values of NeMo-Skills, the policies, intervals and differences."""

import itertools
import math

import numpy as np
import pytest

from nemo_cot.errors import UserError
from nemo_cot.evaluation.curves import majority_curve
from nemo_cot.evaluation.intervals import bootstrap_interval, paired_difference
from nemo_cot.evaluation.metrics import majority_at_k, pass_at_1, pass_at_k
from nemo_cot.evaluation.outcomes import from_rows
from nemo_cot.grading.answers.canonical import canonical_key

R, W, U = "right", "wrong", "undecided"


def outcomes(*problems, **keys):
    """Problems as lists of (answer, verdict)."""
    return from_rows(
        {"problem_id": str(p), "sample": s, "predicted_answer": answer, "verdict": verdict, **keys}
        for p, samples in enumerate(problems)
        for s, (answer, verdict) in enumerate(samples)
    )


@pytest.mark.parametrize(
    ("samples", "value"),
    [
        ([("1/2", R), (r"\frac12", R), ("7", W), ("7", W)], 0.0),
        ([("5", R), ("7", W)], 0.5),
        ([(None, W), (None, W), (None, W), ("5", R)], 1.0),
        ([("", W), ("", W), ("5", R)], 0.0),
        ([(None, W)] * 3, 0.0),
        ([("5", R), ("6", W), ("7", W)], 1 / 3),
        ([("5", R), ("5", W), ("6", W)], 1 / 3),  # the same string with two verdicts is two entries
    ],
)
def test_majority_by_string_is_that_of_nemo_skills(samples, value):
    assert majority_at_k(outcomes(samples), vote="string").value == pytest.approx(value)


@pytest.mark.parametrize(
    ("samples", "value"),
    [
        ([("1/2", R), (r"\frac12", R), ("7", W), ("7", W)], 0.5),
        ([("1/2", R), (r"\frac12", R), ("0.5", R), ("7", W), ("7", W)], 1.0),
        ([("5", R), (r"\sqrt{2}", W), (r"2^{1/2}", W)], 0.0),
        ([("5", R), ("5", R), (r"\sqrt{2}", W), (r"\sqrt{3}", W), (r"\sqrt{5}", W)], 1.0),
        ([("5", R), ("x+1", W), ("1+x", W)], 0.0),
        ([("5", R), ("(1,2)", W), ("(2,1)", W)], 1 / 3),
        ([("5", R), ("1,2", W), ("2,1", W)], 0.0),
        ([("", W), ("", W), ("5", R)], 1.0),
        ([(None, W)] * 2, 0.0),
    ],
)
def test_majority_by_equality_joins_spellings(samples, value):
    assert majority_at_k(outcomes(samples), vote="equivalence").value == pytest.approx(value)


@pytest.mark.parametrize("text", ["1", "7", "90", "1234", "123456", "999999999999999"])
def test_plain_integers_are_their_own_keys_so_they_join_other_spellings(text):
    assert canonical_key(text) == text
    joined = outcomes([("5", R), ("5", R), (text, W), (f"0{text}", W), (f"{text}.0", W)])
    assert majority_at_k(joined, vote="equivalence").value == 0.0


def test_majority_takes_the_first_k_in_numeric_order():
    rows = [
        {"problem_id": "a", "sample": s, "predicted_answer": a, "verdict": v}
        for s, a, v in [(10, "7", W), (2, "5", R), (1, "5", R), ("11", "7", W), (0, "7", W)]
    ]
    o = from_rows(rows)
    assert o.answers == (("7", "5", "5", "7", "7"),)
    assert majority_at_k(o, 3).value == 1.0
    assert majority_at_k(o, 5).value == 0.0
    assert pass_at_1(o, k=1).value == 0.0


def test_pass_at_1_and_its_policies():
    o = outcomes([("5", R), ("6", W), ("?", U), (None, W)], [("5", R)] * 4)
    assert pass_at_1(o).value == pytest.approx((0.25 + 1) / 2)
    assert pass_at_1(o, undecided="right").value == pytest.approx((0.5 + 1) / 2)
    assert pass_at_1(o, undecided="exclude").value == pytest.approx((1 / 3 + 1) / 2)
    assert pass_at_1(o).undecided == pytest.approx(1 / 8)
    assert pass_at_1(o, k=2).value == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize("vote", ["string", "equivalence"])
@pytest.mark.parametrize(
    ("samples", "wrong", "right", "exclude"),
    [
        ([("5", R), ("?", U), ("?", U)], 0.0, 1.0, 1.0),
        ([("5", W), ("?", U), ("?", U)], 0.0, 1.0, 0.0),
        ([("5", R), ("?", U)], 0.5, 1.0, 1.0),
        ([("5", R), ("5", R), ("?", U)], 1.0, 1.0, 1.0),
        ([("?", U), (None, U), ("6", W)], 0.0, 0.5, 0.0),
        ([(None, W), ("?", U)], 0.0, 1.0, 0.0),
    ],
)
def test_undecided_votes_count_as_the_policy_says(vote, samples, wrong, right, exclude):
    for policy, value in (("wrong", wrong), ("right", right), ("exclude", exclude)):
        found = majority_at_k(outcomes(samples), vote=vote, undecided=policy)
        assert found.value == pytest.approx(value), policy
        assert found.undecided == pytest.approx(sum(v == U for _, v in samples) / len(samples))


def test_samples_that_are_not_there_neither_vote_nor_count():
    o = outcomes([("?", U)], [("5", R), ("?", U), ("6", W)])
    assert pass_at_1(o).undecided == 0.5 and pass_at_1(outcomes([("?", U)])).undecided == 1.0
    for vote in ("string", "equivalence"):
        left = majority_at_k(o, vote=vote, undecided="exclude").per_problem
        assert math.isnan(left[0]) and left[1] == 0.5


def test_a_problem_without_decided_samples_is_left_out():
    o = outcomes([("?", U), ("?", U)], [("5", R), ("6", W)])
    for metric in (pass_at_1(o, undecided="exclude"), majority_at_k(o, undecided="exclude")):
        assert math.isnan(metric.per_problem[0]) and metric.value == 0.5
    assert pass_at_k(o, 2, undecided="exclude").value == 1.0
    assert pass_at_1(o).value == 0.25


@pytest.mark.parametrize(
    ("n", "right", "k"), [(4, 2, 2), (5, 1, 3), (5, 0, 2), (3, 3, 1), (6, 5, 2), (8, 4, 8)]
)
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n, right, k):
    o = outcomes([("5", R)] * right + [("6", W)] * (n - right))
    subsets = list(itertools.combinations([True] * right + [False] * (n - right), k))
    assert pass_at_k(o, k).value == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


def test_unequal_sample_counts():
    o = outcomes([("5", R)], [("5", R), ("6", W), ("6", W)])
    assert o.sample_counts.tolist() == [1, 3]
    assert pass_at_1(o).value == pytest.approx((1 + 1 / 3) / 2)
    assert majority_at_k(o).value == 0.5
    assert pass_at_1(o, k=1).value == 1.0
    with pytest.raises(UserError, match="1 problems have fewer than 2 samples, '0' first"):
        pass_at_1(o, k=2)
    with pytest.raises(UserError, match="fewer than 3 samples"):
        pass_at_k(o, 3)


def test_their_verdicts_and_answers_can_be_read_instead():
    rows = [
        {
            "id": 1,
            "predicted_answer": "016",
            "verdict": R,
            "symbolic_correct": False,
            "nemo_skills_answer": "016",
        },
        {
            "id": 1,
            "predicted_answer": "5",
            "verdict": W,
            "symbolic_correct": None,
            "nemo_skills_answer": None,
        },
    ]
    ours, theirs = from_rows(rows), from_rows(rows, grader="nemo_skills")
    assert (pass_at_1(ours).value, pass_at_1(theirs).value) == (0.5, 0.0)
    assert pass_at_1(theirs).undecided == 0.5 and theirs.answers == (("016", None),)
    assert from_rows(
        [{"id": 1, "predicted_answer": "5", "symbolic_correct": True}], grader="nemo_skills"
    ).answers == (("5",),)


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ({"verdict": R}, "row 2"),
        ({"problem_id": "a", "verdict": "maybe"}, "row 2, field verdict"),
        ({"problem_id": "a"}, "row 2, field verdict"),
        ({"problem_id": "a", "verdict": R, "sample": "x"}, "row 2, field sample"),
        ({"problem_id": "a", "verdict": R, "sample": 1.5}, "row 2, field sample"),
        ({"problem_id": "a", "verdict": R, "sample": float("inf")}, "row 2, field sample"),
        ({"problem_id": "b", "verdict": R, "sample": 0}, "problem b"),
    ],
)
def test_bad_rows_are_named(row, where):
    with pytest.raises(UserError) as error:
        from_rows([{"problem_id": "b", "verdict": R, "sample": 0}, row])
    assert error.value.where == where


def test_answers_and_seeds_of_other_spellings():
    rows = [{"id": 1, "verdict": R, "predicted_answer": 7, "sample": "2"}]
    rows.append({"id": 1, "verdict": R, "predicted_answer": "7", "sample": 1.0})
    assert from_rows(rows).answers == (("7", "7"),)


def test_no_rows_is_an_error():
    with pytest.raises(UserError, match="no rows"):
        from_rows([])


def test_bad_options_are_refused():
    o = outcomes([("5", R)])
    with pytest.raises(ValueError, match="undecided is"):
        pass_at_1(o, undecided="skip")
    with pytest.raises(ValueError, match="vote is"):
        majority_at_k(o, vote="best")
    with pytest.raises(ValueError, match="k is 0"):
        pass_at_k(o, 0)
    for confidence in (-0.5, 0, 1, 1.5):
        with pytest.raises(ValueError, match="confidence is"):
            bootstrap_interval(pass_at_1(o), confidence=confidence)
    with pytest.raises(ValueError, match="resamples is 0"):
        bootstrap_interval(pass_at_1(o), resamples=0)
    low, high = bootstrap_interval(pass_at_1(o), resamples=1)
    assert low <= 0.0251 and high == 1.0, "one problem that is right says next to nothing"


def simulated(chance, problems, seed):
    draw = np.random.default_rng(seed)
    return outcomes(*[[("5", R) if draw.random() < chance else ("6", W)] for _ in range(problems)])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    hits = sum(
        low <= 0.3 <= high
        for low, high in (
            bootstrap_interval(pass_at_1(simulated(0.3, 100, seed)), resamples=500, seed=seed)
            for seed in range(100)
        )
    )
    assert 86 <= hits <= 100


def test_the_interval_shrinks_with_problems_and_grows_with_confidence():
    few, many = (pass_at_1(simulated(0.5, n, 1)) for n in (40, 640))
    width = {name: np.diff(bootstrap_interval(m)).item() for name, m in (("few", few), ("many", many))}
    assert 3 < width["few"] / width["many"] < 5
    assert np.diff(bootstrap_interval(few, confidence=0.99)) > width["few"]
    assert bootstrap_interval(few) == bootstrap_interval(few)


def test_a_paired_difference_is_tighter_than_two_intervals():
    draw = np.random.default_rng(0)
    hard = draw.random(200)
    first = outcomes(*[[("5", R) if h < 0.5 else ("6", W)] for h in hard])
    second = outcomes(*[[("5", R) if h < 0.56 else ("6", W)] for h in hard])
    found = paired_difference(pass_at_1(first), pass_at_1(second))
    gain = float(((hard >= 0.5) & (hard < 0.56)).mean())
    assert found.value == pytest.approx(gain)
    assert 0 < found.low < gain < found.high and found.p_value < 0.01 and found.problems == 200
    back = paired_difference(pass_at_1(second), pass_at_1(first))
    assert back.value == pytest.approx(-gain) and back.high < 0


def test_pairs_are_matched_by_id():
    a = from_rows([{"id": "x", "verdict": R}, {"id": "y", "verdict": W}])
    b = from_rows([{"id": "y", "verdict": W}, {"id": "x", "verdict": R}])
    same = paired_difference(pass_at_1(a), pass_at_1(b))
    assert (same.value, same.p_value) == (0, 1) and same.low == -same.high
    with pytest.raises(UserError, match="2 problems are in one run only, 'y' first"):
        paired_difference(
            pass_at_1(a),
            pass_at_1(from_rows([{"id": "z", "verdict": R}, {"id": "x", "verdict": R}])),
        )


def test_a_problem_that_one_run_leaves_out_is_left_out_of_the_difference():
    a, b = outcomes([("5", R)], [("?", U)], [("6", W)]), outcomes([("5", R)], [("5", R)], [("5", R)])
    metrics = [pass_at_1(o, undecided="exclude") for o in (a, b)]
    found = paired_difference(*metrics)
    assert (found.value, found.problems) == (0.5, 2) and found.low >= 0
    nothing = pass_at_1(outcomes([("?", U)], [("?", U)], [("?", U)]), undecided="exclude")
    with pytest.raises(UserError, match="no problem is left to compare"):
        paired_difference(nothing, metrics[1])


def test_the_p_value_is_the_doubled_tail_and_at_most_one():
    """Of two problems, +1 and 0, a resample takes none of the first in 1 of 4 draws: a tail of 1/4."""
    first, second = outcomes([("6", W)], [("6", W)]), outcomes([("5", R)], [("6", W)])
    found = paired_difference(pass_at_1(first), pass_at_1(second))
    assert found.p_value == pytest.approx(0.5, abs=0.03) and (found.low, found.high) == (0, 1)
    sure = [outcomes(*[[one]] * 30) for one in (("6", W), ("5", R))]
    assert paired_difference(*map(pass_at_1, sure), resamples=1000).p_value == 2 / 1000, "none of 1,000 is no 0"
    opposite = outcomes([("5", R)], [("6", W)]), outcomes([("6", W)], [("5", R)])
    assert paired_difference(*map(pass_at_1, opposite)).p_value == 1.0


def of_scorer(scorer, *samples):
    """Rows of one problem: (answer, verdict)."""
    return [
        {"problem_id": "p", "sample": n, "predicted_answer": answer, "verdict": verdict, "scorer": scorer, "symbolic_correct": None}
        for n, (answer, verdict) in enumerate(samples)
    ]


def test_answers_vote_together_by_the_normal_form_of_their_scorer():
    wrong = [("Rome, the Italian", "wrong"), ("rome italian!", "wrong"), ("Rome Italian", "wrong")]
    rows = of_scorer("text", *wrong, ("Paris", "right"), ("paris", "right"))
    assert majority_at_k(from_rows(rows), vote="equivalence").value == 0.0
    assert majority_at_k(from_rows([row | {"scorer": None} for row in rows]), vote="equivalence").value == 1.0
    letters = of_scorer("choice", ("b", "wrong"), ("B", "wrong"), ("C", "wrong"), ("A", "right"))
    assert majority_at_k(from_rows(letters), vote="equivalence").value == 0.0
    both = [*rows, *(row | {"problem_id": "q"} for row in letters)]
    curve = majority_curve(from_rows(both), vote="equivalence")[4].per_problem
    assert curve[0] < 0.5 and curve[1] == 0.0


def test_nemo_skills_rule_is_about_mathematics():
    rows = [*of_scorer("choice", ("A", "right")), {**of_scorer(None, ("1", "right"))[0], "problem_id": "q", "symbolic_correct": False}]
    assert pass_at_1(from_rows(rows, grader="nemo_skills")).per_problem.tolist() == [1.0, 0.0]
    assert pass_at_1(from_rows([rows[0] | {"scorer": "math"}], grader="nemo_skills")).value == 0.0
