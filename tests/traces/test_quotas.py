"""Verdicts, values and problems in fixed shares: quotas met exactly, or refused with the arithmetic."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.errors import UserError
from nemo_cot.traces.keys import key_of
from nemo_cot.traces.quotas import shares
from tests.traces.test_selection import by, curate, names, pool_of, rules, trace


@pytest.mark.parametrize(("mix", "counts"), [({"right": 1, "wrong": 1}, (4, 4)), ({"right": 3, "wrong": 1}, (6, 2)), ({"right": 2, "wrong": 1}, (5, 3))])
def test_verdicts_are_mixed_by_their_ratio(mix, counts):
    traces, lengths = pool_of(*((p, 6) for p in "abcdefgh"), verdicts="rw")
    for order in ("shuffle", "longest", "diverse"):
        found = curate(traces, lengths, rules(num_traces=8, verdicts=["right", "wrong"], verdict_mix=mix, order=order))
        assert Counter(t.verdict for t in found.traces) == {"right": counts[0], "wrong": counts[1]}
        assert max(Counter(names(found.traces)).values()) == 1


def test_a_mix_that_the_pool_does_not_hold_is_refused_with_the_arithmetic():
    traces, lengths = pool_of(*((p, 3) for p in "abcdef"), verdicts="rrw")
    changes = {"verdicts": ["right", "wrong"], "verdict_mix": {"right": 1, "wrong": 3}}
    with pytest.raises(UserError) as caught:
        curate(traces, lengths, rules(num_traces=12, per_problem=3, **changes))
    assert "num_traces=12 divided is wrong 9, of which there are 6 within the quotas (in all 6)" in caught.value.what


def test_balance_gives_each_value_the_same_or_one_more():
    traces = by("annotator", "ann", "bob", "eve", count=6)
    found = curate(traces, list(range(20, 38)), rules(num_traces=9, order="shortest", balance="annotator"))
    assert Counter(t.lineage[0]["source"]["annotator"] for t in found.traces) == {"ann": 3, "bob": 3, "eve": 3}
    found = curate(traces, list(range(20, 38)), rules(num_traces=8, order="shortest", balance="annotator"))
    assert Counter(t.lineage[0]["source"]["annotator"] for t in found.traces) == {"ann": 3, "bob": 3, "eve": 2}
    with pytest.raises(UserError, match="num_traces=12 divided is bob 4, of which there are 1"):
        few = [*by("annotator", "ann", "eve", count=6), *by("annotator", "bob", count=1)]
        curate(few, [20] * 13, rules(num_traces=12, balance="annotator"))
    with pytest.raises(UserError, match="no trace of the pool has this key"):
        curate(traces, [20] * 18, rules(num_traces=6, balance="colour"))


@pytest.mark.parametrize(
    ("subset", "kept"), [({"annotator": "ann"}, {"ann"}), ({"annotator": ["ann", "eve"]}, {"ann", "eve"}), ({"annotator": ["ann"], "problem_id": ["ann1"]}, {"ann"})]
)
def test_a_subset_is_by_any_key_of_the_lineage_or_the_problem(subset, kept):
    traces = by("annotator", "ann", "bob", "eve", count=2)
    wanted = 1 if "problem_id" in subset else 2 * len(kept)
    found = curate(traces, [20] * 6, rules(num_traces=wanted, subset=subset))
    assert {t.lineage[0]["source"]["annotator"] for t in found.traces} == kept and found.dropped == {"subset": 6 - wanted}


def test_a_key_is_of_the_latest_step_then_of_the_problem():
    given = trace("p", lineage=[{"source": {"level": 1}}, {"level": 2}, {"chosen_by": "x"}])
    assert key_of(given, "level") == "2" and key_of(given, "other") is None
    assert key_of(given, "other", {"other": 5}) == "5" and key_of(given, "level", {"level": 9}) == "2"
    assert key_of(given, "verdict") == "right" and key_of(given, "subset_for_metrics") is None


def test_one_problem_gives_way_where_another_verdict_needs_it():
    """In order, both right ones come first and use up the only problems with a wrong one: they give way."""
    traces = [trace("a", "a0"), trace("b", "b0"), trace("c", "c0"), trace("a", "a1", verdict="wrong"), trace("b", "b1", verdict="wrong")]
    changes = {"num_traces": 3, "verdicts": ["right", "wrong"], "verdict_mix": {"right": 1, "wrong": 2}, "order": "first"}
    found = curate(traces, [20] * 5, rules(**changes))
    assert [t.generation for t in found.traces] == ["c0", "a1", "b1"]


@given(
    rows=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("rw"), st.sampled_from("xy")), min_size=1, max_size=14),
    per_problem=st.integers(1, 3), wanted=st.integers(1, 6), balanced=st.booleans(), order=st.sampled_from(["first", "shuffle", "diverse"]),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_quotas_are_met_exactly_or_no_choice_meets_them(rows, per_problem, wanted, balanced, order):
    """Against every choice that there is, for small pools."""
    verdicts = {"r": "right", "w": "wrong"}
    traces = [trace(p, f"{p}{i}", sample=i, verdict=verdicts[v], lineage=[{"by": b}]) for i, (p, v, b) in enumerate(rows)]
    config = rules(
        num_traces=wanted, per_problem=per_problem, order=order, verdicts=["right", "wrong"], balance="by" if balanced else None,
        verdict_mix={"right": 2.0, "wrong": 1.0},
    )  # fmt: skip
    values = sorted({b for _, _, b in rows}) if balanced else [None]
    quotas = shares({(verdict, b): ratio for verdict, ratio in (("r", 2.0), ("w", 1.0)) for b in values}, wanted)
    assert sum(quotas.values()) == wanted

    def possible(cells) -> bool:
        """Max flow by trying: fill cell after cell, problem by problem."""
        def fill(at: int, used: tuple[int, ...]) -> bool:
            if at == len(cells):
                return True
            (verdict, b), need = cells[at]
            counts = [sum(r == (p, verdict, b or r[2]) for r in rows) for p in "abcd"]
            options = product(*(range(min(counts[i], per_problem - used[i]) + 1) for i in range(4)))
            return any(sum(o) == need and fill(at + 1, tuple(map(sum, zip(used, o)))) for o in options)

        return fill(0, (0, 0, 0, 0))

    if possible(list(quotas.items())):
        found = curate(traces, [20] * len(traces), config)
        kept = Counter((t.verdict[0], t.lineage[0]["by"] if balanced else None) for t in found.traces)
        assert kept == {cell: n for cell, n in quotas.items() if n}
        assert max(Counter(names(found.traces)).values()) <= per_problem
        assert len(found.traces) + sum(found.dropped.values()) == len(traces)
    else:
        with pytest.raises(UserError, match="only"):
            curate(traces, [20] * len(traces), config)


def test_shares_are_by_largest_remainders():
    assert shares({("a",): 1, ("b",): 1, ("c",): 1}, 20) == {("a",): 7, ("b",): 7, ("c",): 6}
    assert shares({("a",): 3, ("b",): 1}, 10) == {("a",): 8, ("b",): 2}
    assert shares({("a",): 0.1, ("b",): 0.2, ("c",): 0.7}, 10) == {("a",): 1, ("b",): 2, ("c",): 7}
