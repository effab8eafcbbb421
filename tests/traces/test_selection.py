"""Curation: every rule and every boundary, in tables; the whole against the rules said once more, slowly."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.config import CurateConfig
from nemo_cot.config.marks import MarksConfig
from nemo_cot.errors import UserError
from nemo_cot.records import Trace
from nemo_cot.traces.candidates import Examiner
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


def by(key: str, *values: str, count: int) -> list[Trace]:
    return [trace(f"{v}{i}", f"{v}{i}", lineage=[{"source": {key: v}}]) for v in values for i in range(count)]


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


@pytest.mark.parametrize(("band", "kept"), [((0.25, 0.5), "ab"), ((0.3, 0.5), "a"), ((0.25, 0.25), "b"), ((0.0, 1.0), "abc")])
def test_a_band_of_pass_rates_holds_both_its_ends(band, kept):
    traces = [trace(p, f"{p}{i}", verdict="right" if i < n else "wrong") for p, n in (("a", 2), ("b", 1), ("c", 4)) for i in range(4)]
    found = curate(traces, [20] * 12, rules(num_traces=len(kept), pass_rate=list(band)))
    assert sorted(names(found.traces)) == list(kept)
    assert found.dropped.get("pass_rate", 0) == sum({"a": 2, "b": 1, "c": 4}[p] for p in "abc" if p not in kept)


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


def test_the_table_of_the_pool_says_of_each_trace_in_or_out_and_why():
    traces = [trace("a", "one"), trace("a", "two"), trace("b", verdict="wrong")]
    found = curate(traces, [20, 30, 25], rules(order="shortest", measures=["characters"]))
    rows = [(r.problem_id, r.row, r.chosen, r.rule, r.rank, r.num_student_tokens, r.pass_rate, r.measures) for r in found.rows]
    assert rows == [
        ("a", 0, True, "shortest", 0, 20, 1.0, {"characters": 3.0}),
        ("a", 1, False, "enough_of_problem", None, 30, 1.0, {"characters": 3.0}),
        ("b", 2, False, "verdict_wrong", None, 25, 0.0, {"characters": 1.0}),
    ]
