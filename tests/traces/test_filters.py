"""Each filter on texts on both sides of its line, and what is said of names, keys and values that are wrong."""

from __future__ import annotations

import msgspec
import pytest

from nemo_cot.errors import UserError
from nemo_cot.named import names_in
from nemo_cot.records import Problem, Trace
from nemo_cot.traces import filters
from nemo_cot.traces.filters import Context, bound, load_filters
from nemo_cot.traces.marks import Marks
from tests.traces.test_selection import MARKS


def trace(text: str) -> Trace:
    return Trace(problem_id="p", sample=0, problem="?", expected_answer="1", generation=text,
                 num_generated_tokens=1, finish_reason="stop", verdict="right")  # fmt: skip


HELDOUT = [
    Problem(problem_id="h1", expected_answer="1", problem="Find the number of ordered pairs $(a, b)$ of integers such that $a + b = 10$ and $a < b$."),
    Problem(problem_id="h2", expected_answer="2", problem="What is 2 + 2?"),
]


def drops(name: str, values: dict, given: Trace, length: int = 10) -> bool | str:
    context = Context(Marks(MARKS), HELDOUT)
    return bound(load_filters({name: values}), context)[name](given, length)


LOOP = "Let x be one. " + "So it goes on and on. " * 40
PROSE = "We look at the sum of all odd digits, which must be even because each pair of them adds up to such a number."

CASES = [
    ("regex", {"pattern": "wait"}, "so wait: 2", True),
    ("regex", {"pattern": "wait"}, "so: 2", False),
    ("regex", {"pattern": "wait", "keep": True}, "so wait: 2", False),
    ("regex", {"pattern": "wait", "keep": True}, "so: 2", True),
    ("boxes", {}, r"\boxed{1}", False),
    ("boxes", {}, "1", True),
    ("boxes", {}, r"\boxed{1}, so \boxed{1}", True),
    ("boxes", {"least": 0}, "1", False),
    ("boxes", {"most": 2}, r"\boxed{1}, so \boxed{1}", False),
    ("boxes", {}, r"\boxed{1}, \boxed{} and \boxed{2", False),
    ("boxes", {"final": True}, r"<think>1</think> \fbox{1}", False),
    ("boxes", {"final": True}, "<think>\\boxed{1}? No.</think> \\boxed{2}", False),
    ("boxes", {"final": True}, "<think>\\boxed{1}</think> 1", True),
    ("boxes", {"final": True}, "<think>2</think> \\boxed{1}, \\boxed{2}", True),
    ("finish", {}, "x", False),
    ("finish", {"reasons": ["length"]}, "x", "unfinished"),
    ("verdict", {"keep": ["right"]}, "x", False),
    ("verdict", {"keep": ["wrong", "undecided"]}, "x", "verdict_right"),
    ("tokens", {"least": 10, "most": 10}, "x", False),
    ("tokens", {"least": 11}, "x", "too_short"),
    ("tokens", {"most": 9}, "x", "too_long"),
    ("script", {}, "plain words, \u03b1 and \U0001d465", False),
    ("script", {}, "plain words, 所以", True),
    ("script", {"allow": ["latin", "cjk"]}, "plain words, 所以", False),
    ("script", {"most": 0.2}, "abcdefgh所以", False),
    ("script", {"most": 0.1}, "abcdefgh所以", True),
    ("script", {"allow": ["latin"]}, "\u03b1", True),
    ("script", {}, "12 + 3 = 15", False),
    ("script", {}, "the n\u1d57\u02b0 of x\u207f, 3 \u00b5m, \u2135, \u210f, f\u02b9, n\u00ba and \ufb01t", False),
    ("script", {}, "\uff76\uff85", True),
    ("repetition", {"most_ngrams": 0.5}, LOOP, "repetition_ngrams"),
    ("repetition", {"least_compression": 0.2}, LOOP, "repetition_compression"),
    ("repetition", {"most_loop": 0.5}, LOOP, "repetition_loop"),
    ("repetition", {"most_loop": 0.5, "most_ngrams": 0.5, "least_compression": 0.2}, PROSE, False),
    ("measure", {"bounds": {"steps": {"least": 2}}}, "One.\n\nTwo.", False),
    ("measure", {"bounds": {"steps": {"least": 3}}}, "One.\n\nTwo.", "measure_steps"),
    ("measure", {"bounds": {"steps": {"most": 1}}}, "One.\n\nTwo.", "measure_steps"),
    ("measure", {"bounds": {"characters": {"least": 1}, "answer_position": {"most": 1}}}, "no value", "measure_answer_position"),
    ("contamination", {}, "x", False),
]


def of_problem(text: str, generation: str = "x") -> Trace:
    return msgspec.structs.replace(trace(generation), problem=text)


@pytest.mark.parametrize(
    "text, kind",
    [
        ("What is 2+2", "exact"),
        ("what  is $2 + 2$ ?", "exact"),
        ("What is 2 - 2?", None),
        ("What is 22?", None),
        # 13 words in a row, the rest is another problem
        ("Find the number of ordered pairs (a, b) of integers such that a + b = 99 and more, with a long tail of words", "ngram"),
        # 12 words in a row, then another
        ("Show the number of ordered pairs (a, b) of integers such that c is prime and so is d, for any e with f", None),
        ("Find the sum of ordered pairs (a, b) of integers so that a + b = 10 and a < b.", "fuzzy"),
    ],
)
def test_contamination_is_exact_by_ngram_or_fuzzy(text, kind):
    context = Context(None, HELDOUT)
    index = bound(load_filters({"contamination": {"drop": ["exact", "ngram", "fuzzy"]}}), context)["contamination"]
    assert index(of_problem(text), 10) == (f"contamination_{kind}" if kind else False)
    assert [row["kind"] for row in context.shown.values()] == ([kind] if kind else [])
    if kind:
        [shown] = context.shown.values()
        assert shown["text"] == text and shown["heldout_text"] in [p.problem for p in HELDOUT] and shown["dropped"]


OPENING = "Let ABC be a triangle with AB = 13, BC = 14 and CA = 15."
CENTRE, LETTERS = "Let I be its incenter; find the radius of the circle through I, B and C, times four.", "{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}"
SUM = "State the final answer to the following arithmetic problem: {}"
TASK = "At {0} a train leaves and goes {1} miles per hour; how far from the station that it left will it be at noon that day?"


@pytest.mark.parametrize(
    "text, heldout, kind",
    [
        # numbers are words, operators are none: 12 words, of which all must be the same
        (SUM.format("3 + 8 - 5 ="), [SUM.format("3 + 8 + 5 ="), SUM.format("3 + 8 - 6 =")], None),
        (SUM.format("3 + 8 - 5"), [SUM.format("3 + 8 - 5 =")], "ngram"),
        # an opening, or a list, is a small part of a problem
        (f"{OPENING} {CENTRE}", [f"{OPENING} Find its area, and the sum of the lengths of all of its medians and of all its altitudes."], None),
        (f"{OPENING} Find its area.", [f"{OPENING} Find its area, as a decimal."], "ngram"),
        (f"How many subsets of {LETTERS} are there?", [f"Two of {LETTERS} are drawn at random, without replacement, and added; what is the most likely sum that one may see?"], None),
        # what more than ten problems have in common is a template
        (TASK.format(7, 50), [TASK.format(8, n) for n in range(10)], "ngram"),
        (TASK.format(7, 50), [TASK.format(8, n) for n in range(11)], None),
        (TASK.format(7, 50), [*(TASK.format(8, n) for n in range(11)), TASK.format(7, 50) + " Why?"], "ngram"),
    ],
)
def test_words_in_a_row_count_where_they_are_most_of_a_problem_and_no_template(text, heldout, kind):
    problems = [Problem(problem_id=str(n), problem=one, expected_answer="1") for n, one in enumerate(heldout)]
    found = bound(load_filters({"contamination": {"fuzzy": 100}}), Context(None, problems))["contamination"]
    assert found(of_problem(text), 1) == (f"contamination_{kind}" if kind else False)


def test_near_matches_are_shown_and_dropped_only_by_choice():
    context = Context(None, HELDOUT)
    found = bound(load_filters({"contamination": {}}), context)["contamination"]
    near = of_problem("Find the sum of ordered pairs (a, b) of integers so that a + b = 10 and a < b.")
    assert [found(near, 1), found(near, 1)] == [False, False]
    [shown] = context.shown.values()
    assert shown["kind"] == "fuzzy" and not shown["dropped"] and 85 <= shown["similarity"] < 100


def test_a_held_out_problem_inside_a_generation_is_found_where_asked():
    text = f"As in a problem that I know: {HELDOUT[0].problem} So 4."
    for asked in (True, False):
        context = Context(None, HELDOUT)
        found = bound(load_filters({"contamination": {"generations": asked}}), context)["contamination"]
        assert found(of_problem("Another one altogether", text), 1) == ("contamination_ngram" if asked else False)
        assert [row["where"] for row in context.shown.values()] == ["generation"] * asked


@pytest.mark.parametrize("name, values, text, dropped", CASES)
def test_a_filter_drops_what_it_should(name, values, text, dropped):
    assert drops(name, values, trace(text)) == dropped


def test_every_filter_has_a_case():
    assert {name for name, *_ in CASES} == set(names_in(filters))


@pytest.mark.parametrize(
    "chosen, parts",
    [
        ({"regexp": {}}, ("curate.filters.regexp", "boxes, contamination, finish, measure, regex")),
        ({"regex": {"patern": "x"}}, ("curate.filters.regex.patern", "pattern, keep")),
        ({"regex": 3}, ("curate.filters.regex", "not a group of keys")),
        ({"regex": {}}, ("curate.filters.regex", "pattern")),
        ({"regex": {"pattern": 3}}, ("curate.filters.regex", "Expected `str`")),
        ({"regex": {"pattern": "("}}, ("curate.filters.regex", "not a regular expression")),
        ({"boxes": {"least": "one"}}, ("curate.filters.boxes", "Expected `int`")),
        ({"script": {"most": 1.0}}, ("curate.filters.script", "between 0 and 1")),
        ({"script": {"allow": ["Latin"]}}, ("curate.filters.script", "lower case")),
        ({"repetition": {}}, ("curate.filters.repetition", "no bound")),
        ({"repetition": {"most_loop": 1.5}}, ("curate.filters.repetition", "between 0 and 1")),
        ({"measure": {"bounds": {"stepps": {"most": 1}}}}, ("curate.filters.measure", "no measure 'stepps'")),
        ({"measure": {"bounds": {}}}, ("curate.filters.measure", "no bound")),
        ({"contamination": {"ngram": 1}}, ("curate.filters.contamination", "2 or more")),
        ({"contamination": {"share": 1.0}}, ("curate.filters.contamination", "below 1")),
        ({"contamination": {"fuzzy": 0}}, ("curate.filters.contamination", "between 0 and 100")),
        ({"contamination": {"drop": ["near"]}}, ("curate.filters.contamination", "'near'", "drop")),
        ({"verdict": {"keep": ["rigth"]}}, ("curate.filters.verdict", "'rigth'", "keep")),
        ({"finish": {"reasons": ["end"]}}, ("curate.filters.finish", "'end'", "reasons")),
    ],
)
def test_a_mistake_is_one_line_with_its_key(chosen, parts):
    with pytest.raises(UserError) as caught:
        load_filters(chosen)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_without_rapidfuzz_plan_says_so_and_the_filter_does(monkeypatch):
    import sys

    from nemo_cot.traces.keys import filter_packages
    from tests.traces.test_selection import rules

    assert filter_packages(rules(filters={"contamination": {}, "boxes": {}})) == {"rapidfuzz": "'rapidfuzz>=3.9,<4'"}
    monkeypatch.setitem(sys.modules, "rapidfuzz", None)
    with pytest.raises(UserError) as caught:
        drops("contamination", {}, trace("x"))
    assert caught.value.where == "curate.filters.contamination" and "pip install 'rapidfuzz" in caught.value.fix
