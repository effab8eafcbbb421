"""What enters curate's fingerprint beside its config, and orders over measures that some traces lack."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.traces.keys import marks_config, needs_heldout, needs_marks, problem_keys
from nemo_cot.traces.orders import diverse_structure
from tests.support import write_lines
from tests.traces.test_selection import rules

PLAIN, WITH_MARKS = {"tokens": {"least": 1}}, {"boxes": {"final": True}}


@pytest.mark.parametrize(
    ("filters", "measures", "expected"),
    [({}, [], False), (PLAIN, [], False), (WITH_MARKS, [], True), ({**PLAIN, **WITH_MARKS}, [], True), ({}, ["steps"], True)],
)
def test_the_marks_count_where_one_filter_or_measure_reads_them(filters, measures, expected):
    assert needs_marks(rules(filters=filters, measures=measures)) is expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [({}, False), (PLAIN, False), ({"contamination": {}}, True), ({**PLAIN, "contamination": {}}, True)],
)
def test_the_evaluation_problems_count_where_one_filter_reads_them(filters, expected):
    assert needs_heldout(rules(filters=filters)) is expected


def test_the_shipped_marks_are_in_a_fingerprint_only_where_they_decide():
    shipped, german = (load_config(over).marks for over in ([], ["marks=german"]))
    assert marks_config(shipped) == {}
    deciding, other = marks_config(shipped, decide=True), marks_config(german)
    assert deciding["marks"].startswith("english ") and other["marks"].startswith("german ")
    assert other == marks_config(german, decide=True)


def test_a_problem_without_a_column_has_no_value_for_it(tmp_path):
    path = write_lines(tmp_path / "set.jsonl", [{"id": "a", "level": 3, "other": 1}, {"level": None}, {"id": 7}])
    found = problem_keys(path, ["level", "source"])
    assert found == {"a": {"level": 3}, "set-2": {"level": None}, "7": {}}


def order(rows, names=("tokens", "steps")) -> list[int]:
    """The places in which diverse_structure takes them all."""
    candidates = [SimpleNamespace(measures=dict(zip(names, row))) for row in rows]
    walk = diverse_structure(candidates, rules(measures=list(names)))
    found = [next(walk)]
    while len(found) < len(rows):
        found.append(walk.send(True))
    return found


def test_an_undefined_measure_counts_as_the_mean_of_the_others():
    nan = float("nan")
    # One measure: 0 first, 10 is the farthest, then the undefined one, which lies in the middle, and 1 last.
    assert order([(0.0,), (1.0,), (10.0,), (nan,)], ("tokens",)) == [0, 2, 3, 1]
    assert order([(0.0,), (9.0,), (10.0,), (nan,)], ("tokens",)) == [0, 2, 3, 1]


def test_each_measure_has_the_same_weight_whatever_its_unit():
    rows = np.array([(0, 0), (1000, 0), (0, 1), (1000, 1)], float)
    assert set(order(rows)[:2]) == {0, 3} and order(rows) == order(rows * (1, 1000))
