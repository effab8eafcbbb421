"""Scorers of other domains: what is read as the answer, and its verdict; votes, versions, files with several."""

import json
import random
from string import ascii_uppercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.errors import UserError
from nemo_cot.grading import GRADER_VERSION, grade, grade_many
from nemo_cot.grading.files import grade_file
from nemo_cot.grading.plain_text import MAX_CHARACTERS
from nemo_cot.grading.scorers import (
    chance,
    judge,
    load_scorer,
    question,
    scorer_class,
    scorer_names,
    scorer_version,
    scorer_versions,
)
from nemo_cot.grading.scorers.text import normal_form

OPTIONS = {"A": "12 m/s", "B": "A long chain", "C": "Paris", "D": r"\frac{1}{2}", "E": "B"}


def read(name, data, text, *, fallback="last_number", thoughts="last_resort"):
    """Answer, source, and the verdict against B or Paris."""
    scorer = load_scorer(name, data, where="here")
    found = scorer.extract(text, fallback=fallback, thoughts=thoughts)
    gold = "B" if name == "choice" else "Paris"
    return found.answer, found.source, judge(name, question(name, gold, data), found.answer)


CHOICES = [
    (r"so \boxed{B}", "B", "boxed", "right"),
    (r"so \boxed{\text{(B)}}.", "B", "boxed", "right"),
    (r"\boxed{\mathbf{b}}", "B", "boxed", "right"),
    (r"\boxed{C}", "C", "boxed", "wrong"),
    (r"\boxed{F}", "F", "boxed", "wrong"),
    (r"\boxed{A long chain}", "B", "boxed", "right"),
    (r"\boxed{\text{a  LONG chain.}}", "B", "boxed", "right"),
    (r"\boxed{1/2}", "D", "boxed", "wrong"),
    (r"\boxed{A}, no: \boxed{B}", "B", "boxed", "right"),
    (r"\boxed{A} and \boxed{B}", "A, B", "boxed", "undecided"),
    (r"\boxed{A, B}", "A, B", "boxed", "undecided"),
    ("Answer: A or B", "A or B", "phrase", "undecided"),
    ("Answer: both B and C", "both B and C", "phrase", "undecided"),
    ("The answer is (B).", "B", "phrase", "right"),
    ("The answer is B because A is wrong.", "B", "phrase", "right"),
    ("answer is A because B is wrong", "A", "phrase", "wrong"),
    ("**Answer:** B", "B", "phrase", "right"),
    ("**Answer: B**", "B", "phrase", "right"),
    ("Answer:\n\n**B) A long chain**", "B", "phrase", "right"),
    ("The answer is A long chain", "B", "phrase", "right"),
    ("The answer is A dog", "A dog", "phrase", "undecided"),
    ("Answer: B) Paris", "B) Paris", "phrase", "undecided"),
    ("The correct option is **B**, since A is wrong.", "B", "phrase", "right"),
    ("The answer is clear. The right choice: (C)", "C", "phrase", "wrong"),
    ("The answer is A. No, wait: the answer is B", "B", "phrase", "right"),
    ("<answer>\nB\n</answer> The answer is C", "B", "phrase", "right"),
    ("The answer is A long chain (B)", "B", "phrase", "right"),
    ("We see that\n(B)", "B", "last_line", "right"),
    ("We see that\nI like it", None, None, "wrong"),
    ("no letter at all", None, None, "wrong"),
    ("", None, None, "wrong"),
    ("<think>Answer: A</think> Answer: B", "B", "phrase", "right"),
    (r"<think>so \boxed{B}</think>", "B", "boxed", "right"),
    ("The answer is B-DNA", "B-DNA", "phrase", "undecided"),
    ("Answer: C=O", "C=O", "phrase", "undecided"),
    (r"\boxed{E}", "E", "boxed", "wrong"),  # the letter, though the text of E is B
]


@pytest.mark.parametrize(("text", "answer", "source", "outcome"), CHOICES, ids=[c[0] for c in CHOICES])
def test_the_letter_of_a_choice(text, answer, source, outcome):
    found, where, verdict = read("choice", {"options": OPTIONS}, text)
    assert (found, where, verdict.outcome) == (answer, source, outcome)


def test_reasons_say_why_a_letter_is_not_right():
    reasons = [read("choice", {"options": OPTIONS}, rf"\boxed{{{text}}}")[2].reason for text in ("F", "A, B", "no", "C")]
    assert reasons == ["no-option: F", "two-letters: A, B", "no-letter: it is none of the options' texts either", "letter"]


def test_fallback_and_thoughts_bound_where_an_answer_is_looked_for():
    data = {"options": OPTIONS}
    assert read("choice", data, "Answer: B", fallback="none")[0] is None
    assert read("choice", data, "so\nB", fallback="phrase")[0] is None
    assert read("choice", data, r"<think>\boxed{B}</think>", thoughts="ignore")[0] is None
    assert read("text", {}, "Answer: Paris", fallback="none")[0] is None
    assert read("text", {}, "so\nParis", fallback="phrase")[0] is None
    with pytest.raises(ValueError, match="fallback"):
        read("text", {}, "x", fallback="anywhere")


@settings(deadline=None)
@given(st.integers(2, 26), st.randoms(use_true_random=False))
def test_every_letter_is_itself_alone(number, draw):
    """Off by one in a letter, or a letter of another order, must show."""
    places = draw.sample(range(number), number)
    options = {letter: f"text {place}" for letter, place in zip(ascii_uppercase, places)}
    scorer, gold = load_scorer("choice", {"options": options}, where=""), draw.choice([*options])
    for letter, text in options.items():
        for answer in (letter, f"({letter})", text):
            assert scorer.verdict(gold, answer).outcome == ("right" if letter == gold else "wrong")
    assert scorer.chance == pytest.approx(1 / number)


@pytest.mark.parametrize("options", [{"A": "x"}, {"A": "x", "C": "y"}, {"B": "x", "A": "y"}, {}])
def test_options_are_named_in_order(options):
    with pytest.raises(ValueError, match="not A, B"):
        load_scorer("choice", {"options": options}, where="").check("A")


def test_the_expected_answer_is_one_of_the_options():
    with pytest.raises(ValueError, match="none of the letters A, B, C, D, E"):
        load_scorer("choice", {"options": OPTIONS}, where="").check("F")


FORMS = [
    ("The  Eiffel-Tower!", "eiffeltower"),
    ("an apple a day", "apple day"),
    ("theatre", "theatre"),
    ("Ｐａｒｉｓ", "paris"),  # noqa: RUF001 (full width)
    ("STRASSE", normal_form("Straße")),
    ("1,000", "1000"),
    ("1.5", "1.5"),
    ("-5", "-5"),
    ("−5", "-5"),  # noqa: RUF001
    ("10-12", "10-12"),
    ("U.S.", "us"),
    ("The", "the"),
    ("«Oui»", "oui"),
    ("U. S.\tA", "u s"),
]


@pytest.mark.parametrize(("text", "form"), FORMS)
def test_the_normal_form_of_words(text, form):
    assert normal_form(text) == form


@settings(deadline=None)
@given(st.text(max_size=40))
def test_a_normal_form_stays_as_it_is(text):
    assert normal_form(normal_form(text)) == normal_form(text) or not normal_form(text)


TEXTS = [
    (r"\boxed{Paris}", "Paris", "boxed", "right"),
    (r"\boxed{\text{the paris}}", "the paris", "boxed", "right"),
    ("The answer is Paris. It is nice.", "Paris", "phrase", "right"),
    ("the answer: City of Light!", "City of Light", "phrase", "right"),
    ("Answer: **Paris**", "Paris", "phrase", "right"),
    ("Answer:\n```\nParis\n```\nDone", "Paris", "phrase", "right"),
    ("<answer>Paris</answer>", "Paris", "phrase", "right"),
    ("I think\n- PARIS.", "PARIS", "last_line", "right"),
    ("The answer is in Paris", "in Paris", "phrase", "wrong"),
    ("Parisian", "Parisian", "last_line", "wrong"),
    ("The answer is Paris, France", "Paris, France", "phrase", "wrong"),
    ("The answer is St. Paris", "St. Paris", "phrase", "wrong"),
    (r"\boxed{answer} Answer: Paris", "Paris", "phrase", "right"),
    ("", None, None, "wrong"),
    (r"\boxed{\text{}}", None, None, "wrong"),
]


@pytest.mark.parametrize(("text", "answer", "source", "outcome"), TEXTS, ids=[c[0] for c in TEXTS])
def test_free_text(text, answer, source, outcome):
    found, where, verdict = read("text", {"accepted": ["the City of Light"]}, text)
    assert (found, where, verdict.outcome) == (answer, source, outcome)


def test_numbers_in_words_are_not_run_together():
    asked = question("text", "1.5", {})
    assert [judge("text", asked, a).outcome for a in ("1.5", "15", "-1.5", "1.50")] == ["right", "wrong", "wrong", "wrong"]


def test_mathematics_is_a_scorer_with_the_verdicts_and_the_version_that_it_had():
    pairs = [("5", "5.0"), ("5", None), ("5", " "), (r"\frac12", "0.5"), ("B", "(B)"), ("", "x"), ("5", "6")]
    assert [judge("math", *pair) for pair in pairs] == grade_many(pairs, workers=1, deadline_seconds=20.0)
    assert scorer_version(None) == scorer_versions(["math"]) == GRADER_VERSION
    assert question(None, "5", None) == question("math", "5", {"x": 1}) == "5"


def test_versions_stand_together_with_mathematics_first():
    assert scorer_versions(["text", "choice"]) == "nemo-cot choice 1; nemo-cot text 1"
    assert scorer_versions(["choice", "math"]).startswith(f"{GRADER_VERSION}; ")
    assert scorer_version("reasoning_gym").startswith("nemo-cot reasoning_gym 1, reasoning-gym 0.1.")


def test_chance_is_known_where_there_are_options():
    assert chance("choice", {"options": OPTIONS}) == 0.2
    assert chance(None, None) is chance("text", {}) is None
    assert chance("choice", {"options": "all"}) is chance("choice", None) is chance("nothing", None) is None
    assert chance("choice", {"options": {}}) is None


def test_scorers_are_found_by_their_files_and_a_wrong_name_or_key_is_one_line():
    assert scorer_names() == ["choice", "math", "reasoning_gym", "text"]
    for name, data, where, what in (
        ("chioce", {}, "f, line 3", "choose among choice, math, reasoning_gym, text"),
        ("text", {"acepted": []}, "f, line 3.acepted", "it has accepted"),
        ("text", {"accepted": "Paris"}, "f, line 3", "its keys are accepted"),
        ("choice", {}, "f, line 3", "its keys are options"),
        (["x"], {}, "f, line 3", "choose among"),
    ):
        with pytest.raises(UserError) as caught:
            load_scorer(name, data, where="f, line 3")
        assert caught.value.where == where and what in caught.value.fix
    with pytest.raises(UserError, match="there is no scorer"):
        scorer_class("os")


def test_whatever_a_scorer_raises_is_undecided():
    assert judge("choice", '["A", {"options": 3}]', "A").outcome == "undecided"
    assert judge("choice", "no JSON", "A").outcome == "undecided"
    assert grade("no JSON", "A", scorer="text").reason.startswith("text: ")


HUGE = ["(" * 200_000, " " * 200_000 + "x", "*" * 200_000 + "x", "!" * 200_000, "answer is " * 40_000, "<answer>" * 40_000,
        "A, " * 100_000, "\\text{" * 50_000, "\\frac{" * 50_000, "```\n" * 50_000, "A and " * 50_000 + "b", "_" * 99_999]  # fmt: skip


@pytest.mark.parametrize("text", HUGE, ids=[t[:9] for t in HUGE])
def test_long_texts_take_linear_time(text):
    """In this process, without a deadline: 20,000 characters squared would be minutes."""
    for wrap in ("{}", "Answer: {}", "\\boxed{{{}}}", "<answer>{}</answer>"):
        for name, data in (("choice", {"options": OPTIONS}), ("text", {})):
            answer, _, verdict = read(name, data, wrap.format(text))
            assert verdict.outcome != "right" and len(answer or "") <= MAX_CHARACTERS


def test_equal_answers_vote_together():
    assert scorer_class("text").ballot("The Paris!") == scorer_class("text").ballot("paris")
    assert scorer_class("choice").ballot("B") == scorer_class("choice").ballot("b") != scorer_class("choice").ballot("C")
    assert scorer_class(None).ballot("1/2") == scorer_class("math").ballot("0.5")
    assert scorer_class("reasoning_gym").ballot(" 1/2") != scorer_class("reasoning_gym").ballot("0.5")


def test_a_file_of_several_scorers_keeps_its_order(tmp_path):
    """Each row by its own scorer, in one file; NeMo-Skills' rule beside mathematics only."""
    rows = [
        {"generation": r"\boxed{016}", "expected_answer": "16"},
        {"generation": "Answer: (B)", "expected_answer": "B", "scorer": "choice", "scorer_data": {"options": OPTIONS}},
        {"generation": r"\boxed{paris}", "expected_answer": "Paris", "scorer": "text"},
        {"generation": r"\boxed{A}", "expected_answer": "B", "scorer": "choice", "scorer_data": {"options": OPTIONS}},
        {"generation": r"\boxed{5}", "expected_answer": "6", "scorer": "math"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"fallback": "last_number", "workers": 1, "deadline_seconds": 20.0, "nemo_skills": True}
    for _ in range(2):  # and out of the cache
        summary = grade_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", cache=tmp_path / "cache", **options)
        graded = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [row["verdict"] for row in graded] == ["right", "right", "right", "wrong", "wrong"]
        assert [row["predicted_answer"] for row in graded] == ["016", "B", "paris", "A", "5"]
        assert [row["symbolic_correct"] for row in graded] == [False, None, None, None, False]
        assert [row["grader_version"] for row in graded] == [
            GRADER_VERSION, "nemo-cot choice 1", "nemo-cot text 1", "nemo-cot choice 1", GRADER_VERSION,
        ]  # fmt: skip
        assert summary.differing == {("wrong", "right"): 1}
        assert graded[1]["scorer_data"] == {"options": OPTIONS}
    assert len([*(tmp_path / "cache").iterdir()]) == 3, "a file of verdicts per version"


def test_a_row_with_a_bad_scorer_is_named(tmp_path):
    rows = [{"generation": "x", "expected_answer": "1"}, {"generation": "x", "expected_answer": "1", "scorer": "txet"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as caught:
        grade_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", fallback="none", workers=1, deadline_seconds=2.0,
                   cache=None, nemo_skills=False)  # fmt: skip
    assert caught.value.where == f"{tmp_path / 'in.jsonl'}, line 2, field scorer" and not (tmp_path / "out.jsonl").exists()


def test_the_same_answer_to_other_options_is_another_question():
    """The cache and the duplicates of a batch go by the whole question."""
    draw, pairs = random.Random(3), []
    for _ in range(30):
        texts = ["one", "two", "three"]
        draw.shuffle(texts)
        pairs.append((question("choice", "ABC"[texts.index("two")], {"options": dict(zip("ABC", texts))}), "two"))
    assert {v.outcome for v in grade_many(pairs, workers=1, deadline_seconds=2.0, scorer="choice")} == {"right"}
