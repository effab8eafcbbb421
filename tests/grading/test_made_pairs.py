"""Thousands of made pairs of known truth: no false right, next to no false wrong, few left open."""

from collections import Counter

import pytest

from nemo_cot.grading import grade_many
from tests.grading.made_pairs import MAKERS, pairs


@pytest.fixture(scope="module")
def graded():
    made = pairs()
    verdicts = grade_many([(gold, answer) for _, gold, answer, _ in made], workers=2, deadline_seconds=10.0)
    return [(*pair, verdict) for pair, verdict in zip(made, verdicts)]


def test_every_class_has_pairs_of_both_truths(graded):
    kinds = Counter((name, truth) for name, _, _, truth, _ in graded)
    assert len(graded) > 7000
    assert {(m.__name__, t) for m in MAKERS for t in ("right", "not")} <= kinds.keys()


def test_nothing_is_right_that_is_not(graded):
    assert [row for row in graded if row[3] == "not" and row[4].outcome == "right"] == []


def test_nothing_is_wrong_that_is_right(graded):
    assert [row for row in graded if row[3] == "right" and row[4].outcome == "wrong"] == []


def test_few_right_ones_are_left_undecided(graded):
    undecided = [row for row in graded if row[3] == "right" and row[4].outcome == "undecided"]
    assert len(undecided) <= len(graded) // 1000, undecided
