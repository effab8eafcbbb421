"""Curation: every rule and every boundary, in tables; the whole against the rules said once more, slowly."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.config import CurateConfig
from nemo_cot.config.marks import MarksConfig
from nemo_cot.errors import UserError
from nemo_cot.records import Trace
from nemo_cot.traces.candidates import Examiner
from nemo_cot.traces.keys import key_of
from nemo_cot.traces.orders import farthest_first
from nemo_cot.traces.quotas import shares
from nemo_cot.traces.selection import choose

MIN, MAX, TARGET = 10, 50, 30


def rules(**changes) -> CurateConfig:
    """Wide enough that only ``changes`` decide."""
    fields = {
        "num_traces": 1, "per_problem": 1, "min_tokens": MIN, "max_tokens": MAX, "target_tokens": TARGET,
        "order": "target", "verdicts": ["right"], "seed": 0, "filters": {}, "finish_reasons": ["stop"], "subset": {},
        "pass_rate": [0.0, 1.0], "ties": [], "num_problems": None, "verdict_mix": {}, "balance": None, "measures": [],
    }  # fmt: skip
    return CurateConfig(**(fields | changes))


MARKS = MarksConfig(words={"english": {"backtrack": ["that's wrong"], "check": ["let me check"], "reflect": ["wait"],
                                       "alternative": ["alternatively"]}},
                    shifts=["backtrack", "alternative", "check", "reflect"], thoughts=[["<think>", "</think>"]])  # fmt: skip


@dataclass(frozen=True)
class Kept:
    traces: list[Trace]
    dropped: dict[str, int]
    rows: list


def curate(traces: list[Trace], lengths: list[int], config: CurateConfig, heldout=()) -> Kept:
    """The traces that are chosen, and how many are not for each reason."""
    examiner = Examiner(config, MARKS, heldout)
    pool = [examiner.found(t, n, row)[0] for row, (t, n) in enumerate(zip(traces, lengths, strict=True))]
    found = choose(pool, config)
    return Kept([traces[c.row] for c in found.chosen], found.dropped, list(found.rows()))


def trace(problem_id: str, generation: str = "x", **more) -> Trace:
    fields = {"sample": 0, "finish_reason": "stop", "verdict": "right", "num_generated_tokens": 5}
    return Trace(
        problem_id=problem_id, problem="p", expected_answer="1", generation=generation, **(fields | more)
    )


def of_lengths(*lengths: int) -> tuple[list[Trace], list[int]]:
    """One trace per length, each of a problem of its own that is named after the length and its place."""
    return [trace(f"{length}.{place}") for place, length in enumerate(lengths)], list(lengths)


def names(traces: list[Trace]) -> list[str]:
    return [t.problem_id for t in traces]


def kept_lengths(*lengths: int, **changes) -> list[int]:
    """The lengths of the traces that are kept, in their order."""
    return [int(name.partition(".")[0]) for name in names(curate(*of_lengths(*lengths), rules(**changes)).traces)]


@pytest.mark.parametrize(
    ("length", "reason"),
    [(1, "too_short"), (MIN - 1, "too_short"), (MIN, None), (MAX, None), (MAX + 1, "too_long"), (10**6, "too_long")],
)
@pytest.mark.parametrize("order", ["target", "shuffle"])
def test_the_window_holds_both_its_ends(length, reason, order):
    result = curate([trace("a"), trace("b")], [TARGET, length], rules(num_traces=1 if reason else 2, order=order))
    assert sorted(names(result.traces)) == (["a"] if reason else ["a", "b"])
    assert result.dropped == ({reason: 1} if reason else {})


def test_a_window_of_one_length_keeps_that_length():
    changes = {"num_traces": 2, "min_tokens": 20, "max_tokens": 20}
    assert kept_lengths(19, 20, 21, 20, **changes) == [20, 20]


@pytest.mark.parametrize("verdict", ["right", "wrong", "undecided", None])
@pytest.mark.parametrize("wanted", [["right"], ["wrong"], ["undecided"], ["right", "undecided"], ["wrong", "right"]])
def test_only_the_wanted_verdicts_pass(verdict, wanted):
    traces = [trace("certain", verdict=wanted[0]), trace("asked", verdict=verdict)]
    passes = verdict in wanted
    result = curate(traces, [20, 20], rules(num_traces=1 + passes, verdicts=wanted))
    assert ("asked" in names(result.traces)) == passes
    assert result.dropped == ({} if passes else {f"verdict_{verdict}": 1})


def test_an_unfinished_trace_is_dropped_however_right_it_is():
    result = curate([trace("cut", finish_reason="length"), trace("whole")], [TARGET, MAX], rules())
    assert names(result.traces) == ["whole"] and result.dropped == {"unfinished": 1}


@pytest.mark.parametrize(
    ("changes", "length", "reason"),
    [
        ({"finish_reason": "length", "verdict": "wrong"}, 1, "unfinished"),
        ({"verdict": "wrong"}, 1, "verdict_wrong"),
        ({"verdict": "undecided"}, MAX + 1, "verdict_undecided"),
    ],
)
def test_a_trace_with_several_faults_is_counted_once_for_the_first(changes, length, reason):
    result = curate([trace("bad", **changes), trace("good")], [length, TARGET], rules())
    assert result.dropped == {reason: 1}


def test_a_filter_of_texts_comes_after_the_other_rules_and_is_counted_by_its_name():
    texts = {"a": r"wait \boxed{1}", "b": "wait", "c": r"\boxed{1}", "d": "wait"}
    traces = [trace(name, text, verdict="wrong" if name == "d" else "right") for name, text in texts.items()]
    filters = {"boxes": {}, "regex": {"pattern": "wait"}}
    result = curate(traces, [20] * 4, rules(filters=filters))
    assert names(result.traces) == ["c"] and result.dropped == {"boxes": 1, "regex": 1, "verdict_wrong": 1}
    lengths = curate(traces, [20, 20, MAX + 1, 20], rules(filters={"regex": {"pattern": "wait", "keep": True}}, num_traces=2))
    assert lengths.dropped == {"too_long": 1, "verdict_wrong": 1}


@pytest.mark.parametrize("seed", range(5))
def test_order_target_takes_the_nearest_first_on_both_sides(seed):
    lengths = [20, 44, 31, 10, 28, 50, 35]  # distances 10, 14, 1, 20, 2, 20, 5
    assert kept_lengths(*lengths, num_traces=5, seed=seed) == [31, 28, 35, 20, 44]
    assert kept_lengths(*lengths, num_traces=1, seed=seed) == [31]
    assert kept_lengths(*lengths, num_traces=2, seed=seed, target_tokens=50) == [50, 44]
    assert kept_lengths(*lengths, num_traces=2, seed=seed, target_tokens=1) == [10, 20]
    assert kept_lengths(*reversed(lengths), num_traces=5, seed=seed) == [31, 28, 35, 20, 44]


def first_place_by_seed(*lengths: int, **changes) -> Counter[str]:
    traces, lengths = of_lengths(*lengths)
    return Counter(names(curate(traces, lengths, rules(seed=s, **changes)).traces)[0] for s in range(400))


def test_equal_distances_are_a_matter_of_the_seed_alone():
    """Two on each side, alike far from the target; a fifth, farther away, never comes first."""
    found = first_place_by_seed(25, 35, 25, 35, 36)
    assert found.keys() == {"25.0", "35.1", "25.2", "35.3"}
    assert min(found.values()) > 60, "of 100 expected"


def test_order_shuffle_does_not_look_at_lengths():
    found = first_place_by_seed(TARGET, MIN, MAX, 11, order="shuffle")
    assert len(found) == 4 and min(found.values()) > 60, "of 100 expected"


@pytest.mark.parametrize("order", ["target", "shuffle"])
def test_the_same_seed_gives_the_same_choice_and_another_seed_another(order):
    traces, lengths = of_lengths(*[25, 35] * 10)
    chosen = [names(curate(traces, lengths, rules(num_traces=8, order=order, seed=s)).traces) for s in (3, 3, 4)]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(("per_problem", "kept"), [(1, [30, 33]), (2, [30, 31, 33, 34]), (3, [30, 31, 32, 33, 34])])
def test_a_problem_gives_no_more_than_per_problem_and_its_nearest(per_problem, kept):
    lengths = [32, 34, 30, 33, 31]
    traces = [trace("ab"[length > 32], f"text {length}") for length in lengths]
    result = curate(traces, lengths, rules(num_traces=len(kept), per_problem=per_problem))
    assert [t.generation for t in result.traces] == [f"text {length}" for length in kept]
    assert result.dropped == ({"enough_of_problem": 5 - len(kept)} if len(kept) < 5 else {})


def test_a_text_counts_once_per_problem_and_leaves_room_for_another():
    traces = [trace("a", "same"), trace("a", "same", sample=1), trace("a", "other"), trace("b", "same")]
    result = curate(traces, [30, 30, 31, 32], rules(num_traces=3, per_problem=2))
    assert [(t.problem_id, t.generation) for t in result.traces] == [("a", "same"), ("a", "other"), ("b", "same")]
    assert result.dropped == {"duplicate": 1}


@pytest.mark.parametrize(
    ("third", "reason"),
    [(("a", "one"), "duplicate"), (("a", "two"), "enough_of_problem"), (("c", "one"), "beyond_num_traces")],
)
def test_what_comes_too_late_is_counted_by_its_own_reason(third, reason):
    traces = [trace("a", "one"), trace("b", "one"), trace(*third, sample=1)]
    result = curate(traces, [30, 31, 32], rules(num_traces=2))
    assert names(result.traces) == ["a", "b"] and result.dropped == {reason: 1}


@pytest.mark.parametrize("num_traces", [1, 2, 3])
def test_exactly_num_traces_are_kept(num_traces):
    result = curate(*of_lengths(30, 31, 32), rules(num_traces=num_traces))
    assert len(result.traces) == num_traces
    assert result.dropped == ({"beyond_num_traces": 3 - num_traces} if num_traces < 3 else {})


def test_too_few_is_an_error_with_the_whole_arithmetic():
    traces = [
        trace("a"), trace("a", sample=1), trace("a", "y"), trace("b"), trace("c", verdict="wrong"),
        trace("d", finish_reason="length"), trace("e"), trace("f"), trace("g"),
    ]  # fmt: skip
    lengths = [30, 30, 31, 32, 30, 30, MIN - 1, MAX + 1, MAX + 2]
    with pytest.raises(UserError) as caught:
        curate(traces, lengths, rules(num_traces=3))
    assert caught.value.what == (
        "only 2 of 3 traces are left out of 9 (dropped: duplicate 1, enough_of_problem 1, too_long 2, "
        "too_short 1, unfinished 1, verdict_wrong 1); per_problem=1 x 2 problems = 2 < 3"
    )
    assert caught.value.where == "curate" and "curate.num_traces" in caught.value.fix


@pytest.mark.parametrize(
    ("changes", "what", "fix"),
    [
        ({"subset": {"annotator": "Ann"}}, "; annotator is ann, bob", "correct curate.subset, or raise generate"),
        ({"subset": {"anotator": "ann"}}, "; no trace has the key anotator", "correct curate.subset"),
        ({"min_tokens": 40}, "too_short 4", "lower curate.min_tokens, or raise generate"),
        ({"verdicts": ["wrong"]}, "verdict_right 4", "raise generate.samples_per_problem, or lower"),
    ],
)
def test_too_few_says_what_to_change_by_what_was_dropped(changes, what, fix):
    with pytest.raises(UserError) as caught:
        curate(by("annotator", "ann", "bob", count=2), [20] * 4, rules(**changes))
    assert what in caught.value.what and caught.value.fix.startswith(fix)


def test_too_few_though_none_was_dropped():
    with pytest.raises(UserError, match=r"only 1 of 2 traces are left out of 1 \(dropped: none\)"):
        curate([trace("a")], [30], rules(num_traces=2))


@given(
    pool=st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from(["x", "y", "z"]), st.integers(MIN - 2, MAX + 2),
            st.sampled_from(["right", "wrong"]), st.sampled_from(["stop", "stop", "length"]),
        ),
        max_size=14,
    ),
    per_problem=st.integers(1, 3), order=st.sampled_from(["target", "shuffle"]), seed=st.integers(0, 2),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_the_choice_is_that_of_the_rules_said_one_by_one(pool, per_problem, order, seed):
    """Filters keep the order of the file; then the seed's shuffle, then the distance, then the limits."""
    traces = [trace(p, text, sample=i, verdict=v, finish_reason=f) for i, (p, text, _, v, f) in enumerate(pool)]
    lengths = [length for _, _, length, _, _ in pool]
    passing = [
        (t, n) for t, n in zip(traces, lengths)
        if t.finish_reason == "stop" and t.verdict == "right" and MIN <= n <= MAX
    ]  # fmt: skip
    random.Random(seed).shuffle(passing)
    if order == "target":
        passing = sorted(passing, key=lambda pair: abs(pair[1] - TARGET))
    expected: list[Trace] = []
    for t, _ in passing:
        mates = [kept for kept in expected if kept.problem_id == t.problem_id]
        if len(mates) < per_problem and all(kept.generation != t.generation for kept in mates):
            expected.append(t)
    if not expected:
        with pytest.raises(UserError, match="only 0 of 1"):
            curate(traces, lengths, rules(per_problem=per_problem, order=order, seed=seed))
        return
    for wanted in {1, len(expected)}:
        result = curate(traces, lengths, rules(num_traces=wanted, per_problem=per_problem, order=order, seed=seed))
        assert result.traces == expected[:wanted]
        assert len(result.traces) + sum(result.dropped.values()) == len(traces)
        assert list(result.dropped) == sorted(result.dropped)


def pool_of(*problems: tuple[str, int], verdicts: str = "r", **more) -> tuple[list[Trace], list[int]]:
    """(problem, number of traces): each with a text of its own, lengths from MIN on, verdicts by letter in turn."""
    names_ = {"r": "right", "w": "wrong", "u": "undecided"}
    traces = [
        trace(problem, f"{problem}{i}", sample=i, verdict=names_[verdicts[i % len(verdicts)]], **more)
        for problem, count in problems
        for i in range(count)
    ]
    return traces, [MIN + i % (MAX - MIN) for i in range(len(traces))]


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


@pytest.mark.parametrize(("band", "kept"), [((0.25, 0.5), "ab"), ((0.3, 0.5), "a"), ((0.25, 0.25), "b"), ((0.0, 1.0), "abc")])
def test_a_band_of_pass_rates_holds_both_its_ends(band, kept):
    traces = [trace(p, f"{p}{i}", verdict="right" if i < n else "wrong") for p, n in (("a", 2), ("b", 1), ("c", 4)) for i in range(4)]
    found = curate(traces, [20] * 12, rules(num_traces=len(kept), pass_rate=list(band)))
    assert sorted(names(found.traces)) == list(kept)
    assert found.dropped.get("pass_rate", 0) == sum({"a": 2, "b": 1, "c": 4}[p] for p in "abc" if p not in kept)


def test_ties_are_settled_by_further_orders_and_only_then_by_the_seed():
    traces = [trace(p, f"{p}{i}") for p in "ab" for i in range(4)]
    for seed in range(5):
        found = curate(traces, [20, 21, 22, 23] * 2, rules(num_traces=4, per_problem=2, order="easy", ties=["longest", "first"], seed=seed))
        assert [t.generation for t in found.traces] == ["a3", "b3", "a2", "b2"]


def test_few_problems_with_many_traces_each():
    traces, lengths = pool_of(("a", 1), ("b", 4), ("c", 4), ("d", 4))
    found = curate(traces, lengths, rules(num_traces=6, num_problems=2, per_problem=3, order="first"))
    assert Counter(names(found.traces)) == {"b": 3, "c": 3}
    assert found.dropped == {"too_few_of_problem": 1, "enough_of_problem": 2, "beyond_num_problems": 4}


def test_too_few_problems_with_enough_traces_is_the_arithmetic():
    traces, lengths = pool_of(("a", 1), ("b", 4), ("c", 2))
    with pytest.raises(UserError) as caught:
        curate(traces, lengths, rules(num_traces=6, num_problems=2, per_problem=3))
    assert caught.value.what.endswith("num_problems=2 x 3 traces each = 6, and 1 of 3 problems have 3 different ones")
    assert caught.value.fix.endswith("or change curate.num_problems")


def test_per_problem_times_the_problems_is_the_arithmetic():
    traces, lengths = pool_of(("a", 9), ("b", 9), ("c", 9))
    with pytest.raises(UserError) as caught:
        curate(traces, lengths, rules(num_traces=20, per_problem=5))
    assert caught.value.what.endswith("; per_problem=5 x 3 problems = 15 < 20")
    traces, lengths = pool_of(("a", 9), ("b", 2))
    with pytest.raises(UserError, match="; at most per_problem=5 of each of 2 problems = 7 < 20"):
        curate(traces, lengths, rules(num_traces=20, per_problem=5))


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"num_traces": 20, "num_problems": 3}, "curate.num_problems", "no whole number"),
        ({"num_traces": 20, "num_problems": 4}, "curate.num_problems", "num_problems=4 x per_problem=1 = 4 < 20"),
        ({"verdict_mix": {"right": 1, "wrong": 1}}, "curate.verdict_mix", "curate.verdicts lets right pass"),
        ({"verdict_mix": {"right": 0}}, "curate.verdict_mix", "not above 0"),
        ({"pass_rate": [0.5]}, "curate.pass_rate", "no band"),
        ({"pass_rate": [0.5, 0.4]}, "curate.pass_rate", "no band"),
        ({"order": "longst"}, "curate.order", "longest"),
        ({"ties": ["longst"]}, "curate.ties", "longest"),
        ({"balance": " "}, "curate.balance", "names no key"),
        ({"measures": ["stps"]}, "curate.measures", "steps"),
        ({"order": "diverse_structure"}, "curate.measures", "empty"),
        ({"finish_reasons": ["end"]}, "curate.finish_reasons", "stop, length"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_at_once(changes, where, what):
    with pytest.raises(UserError) as caught:
        rules(**changes)
    assert caught.value.where == where and what in f"{caught.value}"


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


def by(key: str, *values: str, count: int) -> list[Trace]:
    return [trace(f"{v}{i}", f"{v}{i}", lineage=[{"source": {key: v}}]) for v in values for i in range(count)]


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


def test_the_table_of_the_pool_says_of_each_trace_in_or_out_and_why():
    traces = [trace("a", "one"), trace("a", "two"), trace("b", verdict="wrong")]
    found = curate(traces, [20, 30, 25], rules(order="shortest", measures=["characters"]))
    rows = [(r.problem_id, r.row, r.chosen, r.rule, r.rank, r.num_student_tokens, r.pass_rate, r.measures) for r in found.rows]
    assert rows == [
        ("a", 0, True, "shortest", 0, 20, 1.0, {"characters": 3.0}),
        ("a", 1, False, "enough_of_problem", None, 30, 1.0, {"characters": 3.0}),
        ("b", 2, False, "verdict_wrong", None, 25, 0.0, {"characters": 1.0}),
    ]


def test_shares_are_by_largest_remainders():
    assert shares({("a",): 1, ("b",): 1, ("c",): 1}, 20) == {("a",): 7, ("b",): 7, ("c",): 6}
    assert shares({("a",): 3, ("b",): 1}, 10) == {("a",): 8, ("b",): 2}
    assert shares({("a",): 0.1, ("b",): 0.2, ("c",): 0.7}, 10) == {("a",): 1, ("b",): 2, ("c",): 7}
