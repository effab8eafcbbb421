"""Each transform: what it must change, what must stay, and that nothing but the trace, the seed and its place
decides.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import combinations

import msgspec
import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from nemo_cot.config.transform import TransformConfig
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.grading import extract, grade
from nemo_cot.grading.extraction import boxes
from nemo_cot.named import names_in
from nemo_cot.records import Trace
from nemo_cot.text import PromptFormat, TextTokenizer
from nemo_cot.traces import transforms
from nemo_cot.traces.edits import drawn, share, without
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.steps import segment, sentences
from nemo_cot.traces.thought import split_thought
from nemo_cot.traces.transforms import Donor, load_transforms, summary, transformed
from tests.traces.test_steps import QWQ, R1


def given(*strategies):
    """Without a deadline: the first answer starts the grader's process."""
    return lambda test: settings(deadline=None, max_examples=60)(given_any(*strategies)(test))


@cache
def marks() -> Marks:
    return Marks(load_config([]).marks)


def trace(text: str, problem: str = "p", sample: int = 0, expected: str = "4", verdict="right") -> Trace:
    return Trace(problem_id=problem, sample=sample, problem="?", expected_answer=expected, generation=text,
                 num_generated_tokens=9, finish_reason="stop", verdict=verdict, lineage=[{"made_by": "t"}])  # fmt: skip


OTHERS = [
    trace(R1, "r", expected="55"),
    trace("One.\n\nBut two.\n\nWait, three.\n\n\\boxed{9}", "o", expected="9"),
]


def done(one: Trace, *steps: dict, seed: int = 0, others=OTHERS, pool=()) -> Trace:
    """``one`` after the steps, beside the other chosen traces."""
    return next(transformed([one, *others], TransformConfig(list(steps), seed), marks(), pool))


def thought(one: Trace) -> str:
    return split_thought(one.generation, marks()).thought


def steps_of(text: str, split: str = "shift") -> list[str]:
    return [step.body for step in segment(text, marks(), split=split)]


# What all have in common

ALL = [{"name": name} for name in names_in(transforms)] + [
    {"name": "keywords", "kinds": ["check"]}, {"name": "shuffle", "split": "paragraph"}, {"name": "answer", "where": "everywhere"},
    {"name": "truncate", "end_of_turn": False},
]  # fmt: skip
SENTENCES = ["So x = 4.", "Wait, is 3 right?", "But 12 + 5 = 17.", "Let me check: 2.", "Alternatively, 7.", "1. Then 40.",
             "\\[ 5 \\]", "Yes", "a 4 b"]  # fmt: skip
thoughts = st.lists(
    st.tuples(st.sampled_from(SENTENCES), st.sampled_from([" ", "\n", "\n\n"])), min_size=1, max_size=12
).map(lambda pieces: "".join(sentence + gap for sentence, gap in pieces).strip())
SHAPES = ["{}\n\n**Final Answer**\n\n\\boxed{{4}}", "<think>\n{}\n</think>\n\nIt is 4: \\boxed{{4}}."]
made = st.tuples(st.sampled_from(SHAPES), thoughts).map(lambda pair: trace(pair[0].format(pair[1])))
every = st.sampled_from(ALL)
doses = st.sampled_from([0.2, 0.33, 0.5, 0.67, 1.0])
seeds = st.integers(0, 5)


def test_every_transform_is_among_them():
    assert {step["name"] for step in ALL} == set(names_in(transforms)) and len(ALL) > 8


@given(made, every)
def test_dose_zero_is_the_identity(one, step):
    after = done(one, {**step, "dose": 0.0})
    assert after.generation == one.generation and after.trains_end_of_turn
    assert msgspec.structs.replace(after, lineage=one.lineage) == one
    assert after.lineage[-1]["transformed_by"] == step["name"] and after.lineage[-1]["dose"] == 0


@given(made, every, doses, seeds)
def test_other_rows_and_their_order_change_nothing(one, step, dose, seed):
    step = {**step, "dose": dose}
    config = TransformConfig([step], seed)
    alone = done(one, step, seed=seed)
    assert done(one, step, seed=seed) == alone
    assert list(transformed([*reversed(OTHERS), one], config, marks()))[-1] == alone
    more = [
        trace("Wait.\n\n5 8\n\n\\boxed{1}", "z", n, verdict="wrong") for n in range(3)
    ]  # and, wrong, they give no steps
    assert list(transformed([*more, one, *OTHERS], config, marks()))[3] == alone


@given(made, every, doses, seeds)
def test_the_final_solution_stays_but_where_it_is_the_point(one, step, dose, seed):
    after = done(one, {**step, "dose": dose}, seed=seed)
    before, now = split_thought(one.generation, marks()), after.generation
    if step["name"] not in ("truncate", "answer"):
        assert now.endswith(before.solution.lstrip()) and now.startswith(before.before)
    assert after.lineage[:-1] == one.lineage and after.lineage[-1]["seed"] == seed
    assert msgspec.structs.replace(after, generation="", lineage=[]) == msgspec.structs.replace(
        one, generation="", lineage=[]
    ) or step["name"] in ("truncate", "answer")


@given(made, doses)
def test_seeds_and_places_in_the_list_draw_anew(one, dose):
    step = {"name": "digits", "dose": dose}
    texts = {done(one, step, seed=seed).generation for seed in range(8)}
    assert len(texts) > 1 or sum(map(str.isdigit, thought(one))) * dose < 2
    again = done(one, {"name": "digits", "dose": 0.0}, step).generation
    assert again != done(one, step).generation or sum(map(str.isdigit, thought(one))) * dose < 3


# Doses


@pytest.mark.parametrize(
    "count, dose, expected",
    [
        (10, 0.2, 2),
        (10, 0.25, 3),
        (3, 0.33, 1),
        (3, 0.67, 2),
        (5, 0.5, 3),
        (7, 1.0, 7),
        (45, 0.7, 32),
        (7, 0.0, 0),
        (1, 0.49, 0),
        (0, 1.0, 0),
    ],
)
def test_a_share_is_to_the_nearest_whole_number(count, dose, expected):
    assert share(count, dose) == expected


@given(st.integers(0, 30), st.floats(0, 1), st.floats(0, 1), seeds)
def test_a_higher_dose_adds_to_a_lower_one(count, one, other, seed):
    import random

    low, high = sorted([one, other])
    fewer, more = (drawn(count, dose, random.Random(seed)) for dose in (low, high))
    assert more[: len(fewer)] == fewer and len(set(more)) == len(more) <= count


# Each for itself


@given(made, doses, seeds)
def test_digits_become_digits(one, dose, seed):
    after = done(one, {"name": "digits", "dose": dose}, seed=seed)
    old, new = thought(one), thought(after)
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    digits = sum(letter in "0123456789" for letter in old)
    assert all(a.isdigit() and b.isdigit() for a, b in changed) and len(changed) <= share(digits, dose)
    assert after.lineage[-1] | {"digits": digits, "replaced": share(digits, dose)} == after.lineage[-1]


def test_random_digits_are_uniform_over_all_ten():
    after = done(trace("1" * 5000 + "\n\n\\boxed{4}"), {"name": "digits", "dose": 1.0})
    counts = Counter(thought(after))
    assert set(counts) == set("0123456789") and all(400 < n < 600 for n in counts.values())
    half = Counter(thought(done(trace("1" * 5000 + "\n\n\\boxed{4}"), {"name": "digits", "dose": 0.5})))
    assert 2500 + 150 < half["1"] < 2500 + 350


@given(made, doses, seeds)
def test_keywords_remove_marked_sentences_only(one, dose, seed):
    after = done(one, {"name": "keywords", "dose": dose}, seed=seed)
    pieces = [piece.rstrip() for piece in sentences(thought(one))]
    marked = [piece for piece in pieces if any(mark.kind in marks().shifts for mark in marks().find(piece))]
    left = [piece.rstrip() for piece in sentences(split_thought(after.generation, marks()).thought)]
    if left or dose < 1:
        assert sum((Counter(pieces) - Counter(left)).values()) == share(len(marked), dose)
        assert not Counter(pieces) - Counter(left) - Counter(marked)
    if dose == 1:
        assert not any(mark.kind in marks().shifts for mark in marks().find(thought(after)))


def test_keywords_of_one_kind():
    every = done(trace(QWQ), {"name": "keywords", "dose": 1}).generation
    assert "First, I need to" in every and "Wait" not in every, "a subgoal leaves no straight line"
    after = done(trace(QWQ), {"name": "keywords", "dose": 1, "kinds": ["alternative"]}).generation
    assert "what if" not in after
    assert "Maybe" not in after
    assert "Let me double-check" in after
    assert "So, x = 4. Wait" in after


def test_code_is_no_sentence():
    """Forty lines of code are not removed for a word in a comment."""
    code = "```python\n# wait, but\n\nprint(5)  # check\n```"
    after = done(trace(f"Let me check by code.\n\n{code}\n\nHmm, 5.\n\n\\boxed{{4}}"), {"name": "keywords", "dose": 1})
    assert thought(after) == code and after.lineage[-1]["removed"] == 2


@given(made, doses, seeds, st.sampled_from(["shift", "paragraph"]))
def test_shuffle_and_reverse_keep_each_step_once(one, dose, seed, split):
    for name in ("shuffle", "reverse"):
        after = done(one, {"name": name, "dose": dose, "split": split}, seed=seed)
        old, new = thought(one), thought(after)
        assert Counter(new.split()) == Counter(old.split()) and len(new) == len(old)
        assert after.lineage[-1]["steps"] == len(steps_of(old, split))


LETTERS = "\n\n".join(f"Wait {letter}." for letter in "abcdefghij") + "\n\n\\boxed{4}"


def order(one: Trace) -> str:
    return "".join(re.findall(r"Wait (\w)", one.generation))


def test_a_full_shuffle_moves_steps_to_every_place():
    orders = {order(done(trace(LETTERS), {"name": "shuffle", "dose": 1.0}, seed=seed)) for seed in range(200)}
    assert "abcdefghij" not in orders and all(sorted(o) == list("abcdefghij") for o in orders)
    assert all({o[place] for o in orders} == {*"abcdefghij"} - {"abcdefghij"[place]} for place in range(10))
    two = trace("Wait a.\n\nWait b.\n\n\\boxed{4}")
    assert {order(done(two, {"name": "shuffle", "dose": 1.0}, seed=seed)) for seed in range(9)} == {"ba"}


def test_a_part_is_shuffled_among_itself():
    for seed in range(20):
        now = order(done(trace(LETTERS), {"name": "shuffle", "dose": 0.3}, seed=seed))
        assert sum(a != b for a, b in zip(now, "abcdefghij")) == 3


@given(st.integers(1, 30), st.sampled_from(["shuffle", "reverse"]), doses, seeds)
def test_as_many_steps_move_as_the_dose_and_the_lineage_say(count, name, dose, seed):
    """A step alone cannot change places; of an odd number that is reversed the middle one stays."""
    letters = [*"abcdefghijklmnopqrstuvwxyzABCD"][:count]
    text = "\n\n".join(f"Wait {letter}." for letter in letters) + "\n\n\\boxed{4}"
    after, chosen = done(trace(text), {"name": name, "dose": dose}, seed=seed), share(count, dose)
    moved = sum(a != b for a, b in zip(order(after), letters, strict=True))
    said = after.lineage[-1]["shuffled" if name == "shuffle" else "reversed"]
    assert said == (chosen if chosen > 1 else 0) and moved == said - (name == "reverse") * (said % 2)


def test_reverse():
    assert order(done(trace(LETTERS), {"name": "reverse", "dose": 1})) == "jihgfedcba"
    now = order(done(trace(LETTERS), {"name": "reverse", "dose": 0.2}))
    places = [n for n, (a, b) in enumerate(zip(now, "abcdefghij")) if a != b]
    assert len(places) == 2 and now[places[0]] == "abcdefghij"[places[1]]


@given(made, doses, seeds)
def test_delete_keeps_the_others_in_order(one, dose, seed):
    after = done(one, {"name": "delete", "dose": dose}, seed=seed)
    old = steps_of(thought(one))
    assert after.lineage[-1] | {"steps": len(old), "deleted": share(len(old), dose)} == after.lineage[-1]
    deleted = share(len(old), dose)
    left = after.generation.removeprefix("<think>\n").removesuffix(
        split_thought(one.generation, marks()).solution.strip()
    )
    assert left.split() in [" ".join(bodies).split() for bodies in combinations(old, len(old) - deleted)]


def test_delete_of_all_leaves_the_final_solution():
    assert (
        done(trace(QWQ), {"name": "delete", "dose": 1}).generation == "**Final Answer**\n\n\\[ \\boxed{4} \\]"
    )
    assert (
        done(trace(R1), {"name": "delete", "dose": 1}).generation
        == "<think>\n\n</think>\n\nThe sum is 55.\n\n\\boxed{55}"
    )
    some = {order(done(trace(LETTERS), {"name": "delete", "dose": 0.33}, seed=seed)) for seed in range(9)}
    assert len(some) > 5 and all(len(o) == 7 and list(o) == sorted(o) for o in some)


def test_replace_takes_steps_of_other_problems_right_traces():
    wrong = trace("Wait Z.\n\nWait Y.\n\n\\boxed{1}", "w", verdict="wrong")
    same = trace("Wait S.\n\nWait T.\n\n\\boxed{4}", "p", 1)
    donors = [trace("Wait 1.\n\nWait 2.\n\n\\boxed{0}", "q"), wrong, same]
    after = done(trace(LETTERS), {"name": "replace", "dose": 1}, others=donors)
    assert set(order(after)) == {"1", "2"}
    assert len(order(after)) == 10
    assert after.generation.endswith("\n\n\\boxed{4}")
    part = order(done(trace(LETTERS), {"name": "replace", "dose": 0.5}, others=donors))
    assert sum(letter in "12" for letter in part) == 5 and all(
        a == b for a, b in zip(part, "abcdefghij") if a not in "12"
    )
    pool = [Donor("q", n, f"Wait {n}.\n\n\\boxed{{0}}", "0", "right") for n in range(5)]
    drawn_from = {
        order(done(trace(LETTERS), {"name": "replace", "dose": 1, "donors": "pool"}, pool=p))
        for p in (pool, pool[::-1])
    }
    assert len(drawn_from) == 1 and set(drawn_from.pop()) == set("01234")


def test_replace_without_a_donor_is_one_line():
    with pytest.raises(UserError) as caught:
        done(trace(LETTERS), {"name": "replace", "dose": 1}, others=[trace("Wait S.\n\n\\boxed{4}", "p", 1)])
    assert "2 right ones, all of this problem" in str(caught.value) and caught.value.fix


@pytest.mark.parametrize("dose, kept", [(0.2, "abcdefgh"), (0.67, "abc"), (1.0, "a"), (0.01, "abcdefghij")])
def test_truncate_keeps_the_beginning(dose, kept):
    after = done(trace(LETTERS), {"name": "truncate", "dose": dose})
    assert order(after) == kept and LETTERS.startswith(after.generation) and "boxed" not in after.generation
    assert after.verdict is None and after.trains_end_of_turn
    assert after.lineage[-1] | {"steps": 10, "cut": 10 - len(kept), "solutions": 1} == after.lineage[-1]
    assert done(trace(R1), {"name": "truncate", "dose": 1}).generation.startswith("<think>\nOkay")


def test_a_partial_solution_need_not_teach_to_stop(tiny_model):
    from nemo_cot.packing.sequences import tokenize_traces

    tokenizer = TextTokenizer(tiny_model, PromptFormat("{problem}:", "<|im_end|>"))
    both = [
        done(trace(LETTERS), {"name": "truncate", "dose": 0.5, "end_of_turn": end}) for end in (True, False)
    ]
    stops, goes_on = tokenize_traces(both, tokenizer, capacity_tokens=500)
    assert stops.input_ids == [*goes_on.input_ids, tokenizer.end_of_turn_id]
    assert stops.num_prompt_tokens == goes_on.num_prompt_tokens


@pytest.mark.parametrize(
    "text, expected",
    [("So 4.\n\n\\boxed{4}", "4"), ("\\boxed{4} or\n\n\\boxed{4}", "4"), ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
     ("\\boxed{0.25}", "1/4"), ("\\boxed{-3}", "-3"), ("\\boxed{B}", "B"), ("\\boxed{\\text{Evelyn}}", "\\text{Evelyn}"),
     ("The answer is 42.", "42"), ("\\boxed{2\\sqrt{5}}", "2\\sqrt{5}"), ("\\boxed{(1,2)}", "(1,2)")],
)  # fmt: skip
def test_a_wrong_answer_is_surely_wrong_and_nothing_else_moves(text, expected):
    for seed in range(4):
        one = trace(text, expected=expected)
        after = done(one, {"name": "answer", "dose": 1}, seed=seed)
        figure = after.lineage[-1]
        assert grade(expected, after.predicted_answer).outcome == "wrong" and after.verdict == "wrong"
        assert after.generation != text and after.generation.replace(figure["is"], figure["was"]) == text


def test_an_answer_in_boxes_alone_or_everywhere():
    text = "So 4 and 14, 4.5 and 4!\n\n\\boxed{4} is 4."
    box = done(trace(text), {"name": "answer", "dose": 1})
    new = box.predicted_answer
    assert box.generation == text.replace("{4}", f"{{{new}}}")
    both = done(trace(text), {"name": "answer", "dose": 1, "where": "everywhere"}).generation
    assert both == f"So {new} and 14, 4.5 and {new}!\n\n\\boxed{{{new}}} is {new}."


@pytest.mark.parametrize("fallback", ["none", "last_number"])
@pytest.mark.parametrize(
    "text, thought_stays",
    [("<think>\nSo \\boxed{4}? Wait, 2+2=4.\n</think>\n\nIt is \\boxed{4}.", True),
     ("<think>\nSo \\boxed{4}? Wait, 2+2=4.\n</think>\n\nThe answer is 4.", False),
     ("<think>\nSo \\boxed{4}? Wait, 2+2=4.\n</think>\n\nThat is it.", False)],
)  # fmt: skip
def test_boxes_in_the_thought_stay_where_the_final_solution_has_one(text, thought_stays, fallback):
    """A final solution without a box is graded by its own words, or by the thought's box: both are wrong then."""
    after = done(trace(text), {"name": "answer", "dose": 1})
    assert (thought(after) == thought(trace(text))) == thought_stays
    assert grade("4", extract(after.generation, fallback=fallback).answer).outcome == "wrong"


def test_the_dose_of_an_answer_is_its_probability():
    many = [trace("\\boxed{4}", f"p{n}") for n in range(400)]
    after = list(transformed(many, TransformConfig([{"name": "answer", "dose": 0.3}], 1), marks()))
    assert 90 < sum(t.generation != "\\boxed{4}" for t in after) < 150


@pytest.mark.parametrize("text, expected", [("No.", "4"), ("\\boxed{x}", "x")])
def test_an_answer_that_cannot_be_replaced_is_one_line(text, expected):
    with pytest.raises(UserError) as caught:
        done(
            trace(text, expected=expected),
            {"name": "answer", "dose": 1},
            others=[trace("\\boxed{x}", "q", expected="x")],
        )
    assert "trace p, sample 0" in str(caught.value)


def test_boxes_are_found_by_their_braces():
    assert [(a, b) for a, b in boxes(r"\boxed{a{b}c} \fbox {d} \boxed{} \boxed{e")] == [(7, 12), (21, 22)]


def test_of_removed_pieces_the_widest_gap_stays():
    assert without(["a ", "b\n\n", "c ", "d"], {1}) == "a\n\nc d"
    assert without(["a ", "b ", "c"], {2}) == "a b" and without(["a ", "b"], {0, 1}) == ""
    assert without(["a ", "b "], ()) == "a b "


def test_several_steps_are_done_in_order_and_counted():
    steps = [{"name": "reverse", "dose": 1}, {"name": "digits", "dose": 0.5}]
    before = [trace(LETTERS + " 5"), *OTHERS]
    after = list(transformed(before, TransformConfig(steps, 3), marks()))
    assert [step.get("transformed_by") for step in after[0].lineage] == [None, "reverse", "digits"]
    lines = list(summary(before, after))
    assert lines[0] == "reverse: steps 16, reversed 16" and lines[1].startswith("digits: digits ")
    assert lines[-1] == "3 of 3 traces changed"


@pytest.mark.parametrize(
    "step, parts",
    [
        ({"name": "digit", "dose": 1}, ("no transform 'digit'", "answer, delete, digits")),
        ({"name": "digits"}, ("dose",)),
        ({"name": "digits", "dose": 1.01}, ("transform.steps[0].dose", "1.01")),
        ({"name": "digits", "dose": -0.1}, ("transform.steps[0].dose",)),
        ({"name": "digits", "dose": float("nan")}, ("transform.steps[0].dose",)),
        ({"name": "digits", "dose": "all"}, ("Expected `float`",)),
        ({"name": "shuffle", "dose": 1, "split": "x"}, ("split",)),
        ({"name": "keywords", "dose": 1, "kind": ["check"]}, ("unknown key", ".kind")),
        ("digits", ("not a group",)),
        ({"dose": 1}, ("not a group with a name",)),
    ],
)
def test_a_mistake_is_one_line_with_its_key(step, parts):
    with pytest.raises(UserError) as caught:
        load_transforms([step])
    assert all(part in str(caught.value) for part in ("transform.steps[0]", *parts)), caught.value


def test_unknown_kinds_are_refused_before_anything_runs():
    with pytest.raises(UserError) as caught:
        load_config(["transform.steps=[{name:keywords,dose:1,kinds:[chek]}]"])
    assert "chek" in str(caught.value) and "check" in caught.value.fix
