"""Orders in which traces are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.traces.orders import farthest_first
from tests.traces.test_selection import MIN, curate, names, pool_of, rules, trace


@pytest.mark.parametrize(
    ("order", "kept"),
    [("first", ["a0", "a1", "b0"]), ("longest", ["b2", "b1", "b0"]), ("shortest", ["a0", "a1", "a2"]), ("target", ["b2", "b1", "b0"])],
)
def test_orders_by_row_and_by_length(order, kept):
    traces, lengths = pool_of(("a", 3), ("b", 3))
    found = curate(traces, lengths, rules(num_traces=3, per_problem=2 if order == "first" else 3, order=order))
    assert [t.generation for t in found.traces] == kept


@pytest.mark.parametrize(("order", "kept"), [("easy", ["c", "a", "b"]), ("hard", ["b", "a", "c"])])
def test_easy_and_hard_go_by_the_pass_rate_over_all_traces(order, kept):
    """a 2 of 4, b 1 of 4 (a cut one that is right counts as right, too: it was solved), c 3 of 3."""
    traces = [
        *(trace("a", f"a{i}", verdict=v) for i, v in enumerate(("right", "right", "wrong", "wrong"))),
        *(trace("b", f"b{i}", verdict=v) for i, v in enumerate(("right", "wrong", "wrong", "undecided"))),
        *(trace("c", f"c{i}", finish_reason="length" if i else "stop") for i in range(3)),
    ]
    found = curate(traces, [20] * 11, rules(num_traces=3, order=order))
    assert names(found.traces) == kept
    rates = {row.problem_id: row.pass_rate for row in found.rows}
    assert rates == {"a": 0.5, "b": 0.25, "c": 1.0}


def test_ties_are_settled_by_further_orders_and_only_then_by_the_seed():
    traces = [trace(p, f"{p}{i}") for p in "ab" for i in range(4)]
    for seed in range(5):
        found = curate(traces, [20, 21, 22, 23] * 2, rules(num_traces=4, per_problem=2, order="easy", ties=["longest", "first"], seed=seed))
        assert [t.generation for t in found.traces] == ["a3", "b3", "a2", "b2"]


@given(st.permutations(range(8)), st.sampled_from(["target", "longest", "shortest", "easy", "hard"]))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_file_changes_nothing_but_ties(order, by_order):
    traces, lengths = pool_of(*((p, 1) for p in "abcdefgh"))
    for number, t in enumerate(traces):
        traces[number] = trace(t.problem_id, t.generation)
    extra = [trace(t.problem_id, f"bad{i}", verdict="wrong") for i, t in enumerate(traces) for _ in range(i)]
    chosen = []
    for places in (range(8), order):
        pool = [*(traces[i] for i in places), *extra]
        sizes = [*(lengths[i] for i in places), *[MIN] * len(extra)]
        chosen.append(names(curate(pool, sizes, rules(num_traces=4, order=by_order)).traces))
    assert chosen[0] == chosen[1]


def test_diverse_takes_a_trace_of_each_kind_before_a_second_of_any():
    texts = ["add one and two then three", "add one and two then four", "prove by induction over primes", "prove by induction over odds",
             "draw a triangle with circle", "draw a triangle with square"]  # fmt: skip
    for seed in range(6):
        traces = [trace(f"p{i}", text) for i, text in enumerate(texts)]
        found = curate(traces, [20] * 6, rules(num_traces=3, order="diverse", seed=seed))
        assert {t.generation[:3] for t in found.traces} == {"add", "pro", "dra"}


def test_diverse_by_structure_takes_the_extremes_of_the_measures():
    traces = [trace(f"p{i}", "Step.\n\n" * n) for i, n in enumerate([3, 3, 3, 40, 3, 3])]
    for seed in range(6):
        found = curate(traces, [20] * 6, rules(num_traces=2, order="diverse_structure", measures=["steps", "underthinking"], seed=seed))
        assert sorted(len(t.generation) for t in found.traces) == [21, 280]
        assert {row.measures["steps"] for row in found.rows} == {3.0, 40.0} and found.rows[0].measures["underthinking"] is None


def test_diverse_keeps_the_quotas_and_goes_on_from_what_was_taken():
    """Per problem one: the farthest of a full problem stands aside and is no centre."""
    traces = [trace("a", "alpha beta gamma"), trace("a", "wholly other words here"), trace("b", "alpha beta delta"), trace("c", "one two three four")]
    for seed in range(8):
        found = curate(traces, [20] * 4, rules(num_traces=3, order="diverse", seed=seed))
        assert sorted(names(found.traces)) == ["a", "b", "c"]


def test_farthest_first_is_the_greedy_choice():
    points = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    walk = farthest_first(points)
    place, taken, aside = next(walk), [], set()
    for number in range(12):
        if taken:
            left = [i for i in range(40) if i not in taken and i not in aside]
            far = [min(np.linalg.norm(points[i] - points[j]) for j in taken) for i in left]
            assert place == left[int(np.argmax(far))]
        if number % 3 == 2:
            aside.add(place)
            place = walk.send(False)
        else:
            taken.append(place)
            place = walk.send(True)
