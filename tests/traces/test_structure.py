"""Every measure on texts short enough to do by hand, the profile of a set, and the likeness of two."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.config.marks import MarksConfig
from nemo_cot.errors import UserError
from nemo_cot.report import tables
from nemo_cot.report.run_results import run_results
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.structure import View, measure_names, unit_of
from nemo_cot.traces.structure.profile import (
    Found,
    Measured,
    measured_sets,
    plain_row,
    probabilities,
    structure,
)
from nemo_cot.traces.structure.vectors import distinctive, text_vector
from tests.report.made import findings
from tests.support import write_lines

WORDS = {
    "english": {
        "backtrack": ["that's wrong"], "check": ["let me check"], "reflect": ["wait"], "alternative": ["alternatively"],
        "subgoal": ["first"], "backward": ["working backwards"], "conclude": ["therefore"],
    }
}  # fmt: skip
CONFIG = MarksConfig(words=WORDS, shifts=["backtrack", "check", "reflect", "alternative"], thoughts=[])
MARKS = Marks(CONFIG)
PAPER = "First, add 2 and 3.\n\nWait, that's wrong.\n\nAlternatively, guess 6.\n\nLet me check: 6 is 6.\n\nTherefore \\boxed{6}"
"""5 steps. "Wait, that's wrong" holds two marks, and backtrack is listed before reflect."""


def view(text: str, *, tokens: int | None = None, **row) -> View:
    return View(plain_row({"generation": text, **row}), MARKS, tokens)


def of(name: str, text: str, **more) -> float:
    return view(text, **more).measured(name)


def test_the_example_has_the_steps_that_the_cases_count():
    steps = view(PAPER).steps
    assert [(s.kind, len(s.text)) for s in steps] == [
        ("subgoal", 21), ("backtrack", 21), ("alternative", 25), ("check", 23), ("conclude", 19)
    ]  # fmt: skip
    assert len(PAPER) == 109


NAN = math.nan
LETTERS = "a b c d e f g h "
CASES = [
    ("tokens", PAPER, {"tokens": 40}, 40),
    ("tokens", PAPER, {}, NAN),
    ("characters", "αβ c", {}, 4),
    ("characters", "", {}, 0),
    ("steps", PAPER, {}, 5),
    ("steps", "", {}, 0),
    ("step_length", PAPER, {}, 109 / 5),
    ("step_length", "", {}, NAN),
    ("keywords", PAPER, {}, 4),  # wait, that's wrong, alternatively, let me check; not first, therefore
    ("keywords", "A plain line with waiting in it.", {}, 0),
    ("keyword_density", "wait, so it is wait", {}, 2 / 5),
    ("keyword_density", "", {}, NAN),
    ("opening_rate", PAPER, {}, 1),
    ("opening_rate", "Wait, no.\n\nSo let me check it.", {}, 0),  # a check in mid-sentence opens nothing
    ("shift_share", PAPER, {}, 3 / 5),
    ("shift_share", "", {}, NAN),
    ("review_ratio", PAPER, {}, (21 + 23) / 109),
    ("review_ratio", "Plain.", {}, 0),
    ("switches", PAPER, {}, 1),
    ("switches", "One, alternatively two.", {}, 0),
    ("switch_interval", PAPER, {"tokens": 40}, 20),
    ("switch_interval", "Plain.", {"tokens": 40}, 40),
    ("branching_density", PAPER, {}, 1 / 5),
    ("verification", PAPER + " Let me check. So let me check.", {}, 3),
    ("backtracking", PAPER, {}, 1),
    ("subgoals", PAPER, {}, 1),
    ("backward_chaining", "Working backwards, 6. Working backwards from it.", {}, 2),
    ("repeated_ngrams", LETTERS * 2, {}, 1 - 8 / 9),  # 16 words, 9 spans of 8, the last of which is the first again
    ("repeated_ngrams", LETTERS, {}, 0),
    ("repeated_ngrams", "a b c d e f g", {}, NAN),
    ("repeated_ngrams", "a " * 20, {}, 1 - 1 / 13),
    ("compression", "", {}, NAN),
    ("longest_repeat", "a b c x a b c y", {}, 3),
    ("longest_repeat", "a b c d", {}, 0),
    ("longest_repeat", "a a a a", {}, 3),  # they may overlap
    ("longest_repeat", "", {}, 0),
    ("loop", "x y a b a b a b", {}, 6 / 8),
    ("loop", "x y a b a b", {}, 0),  # twice is no loop
    ("loop", "a b a b a b x", {}, 0),  # not at the end
    ("loop", "x a a a", {}, 3 / 4),
    ("loop", "x y a b a b a b a", {}, 7 / 9),
    ("loop", "", {}, NAN),
    ("answer_position", "So 16 + 6 is 6 more", {"predicted_answer": "6"}, 8 / 19),
    ("answer_position", "\\boxed{22}", {}, 7 / 10),
    ("answer_position", "so 5: \\fbox{5}", {}, 3 / 14),
    ("answer_position", "nothing", {}, NAN),
    ("answer_position", "1.6 and 6.5 and x6", {"predicted_answer": "6"}, NAN),
    ("answer_position", "\\boxed{1} or \\boxed{\\frac{1}{2}}", {}, 20 / 32),
    ("underthinking", "It is 7, no: 8.", {"verdict": "wrong", "expected_answer": "7"}, 1 - 6 / 15),
    ("underthinking", "It is 8.", {"verdict": "wrong", "expected_answer": "7"}, 0),
    ("underthinking", "It is 7.", {"verdict": "right", "expected_answer": "7"}, NAN),
    ("lexical_diversity", "a b a", {}, 2 / 3),
    ("lexical_diversity", "a " * 100 + "b", {}, (1 + 2) / 2 / 100),  # two windows: one word, two words
    ("lexical_diversity", "", {}, NAN),
    ("ended", "x", {"finish_reason": "stop"}, 1),
    ("ended", "x", {"finish_reason": "length"}, 0),
    ("ended", "x", {}, NAN),
]


@pytest.mark.parametrize("name, text, more, value", CASES)
def test_a_measure_is_what_its_formula_says(name, text, more, value):
    assert of(name, text, **more) == pytest.approx(value, nan_ok=True)


def test_every_measure_has_a_case_a_unit_and_a_docstring():
    assert set(measure_names()) - {name for name, *_ in CASES} == set()
    assert all(unit_of(name) for name in measure_names())


def test_compression_is_small_for_what_repeats():
    assert of("compression", "abc " * 200) < 0.05 < 0.5 < of("compression", "The quick brown fox jumps over the lazy dog.")


def test_words_are_whole_and_a_character_of_chinese_is_one():
    assert view("It's 所以 x_1, α! it’s").words == ["it's", "所", "以", "x_1", "α", "it’s"]  # noqa: RUF001


@given(st.lists(st.sampled_from("abc"), max_size=40))
@settings(max_examples=200, deadline=None)
def test_repeats_loops_and_diversity_are_those_counted_slowly(letters):
    found = view(" ".join(letters))
    spans = {n: [tuple(letters[i : i + n]) for i in range(len(letters) - n + 1)] for n in range(1, 41)}
    longest = max((n for n, s in spans.items() if len(set(s)) < len(s)), default=0)
    assert found.measured("longest_repeat") == longest
    loops = [0]
    for period in range(1, len(letters) // 3 + 1):
        length = period
        while length < len(letters) and letters[-1 - length] == letters[-1 - length + period]:
            length += 1
        loops.append(length if length >= 3 * period else 0)
    assert found.measured("loop") == pytest.approx(max(loops) / len(letters) if letters else NAN, nan_ok=True)
    if len(letters) >= 8:
        assert found.measured("repeated_ngrams") == pytest.approx(1 - len(set(spans[8])) / len(spans[8]))


def test_lexical_diversity_is_the_mean_over_all_windows():
    words = random.Random(1).choices(["alpha", "beta", *"abcdefghijklmnop"], k=350)
    windows = [len(set(words[i : i + 100])) / 100 for i in range(251)]
    assert of("lexical_diversity", " ".join(words)) == pytest.approx(sum(windows) / 251)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_a_measure(text):
    found = view(text, tokens=3, predicted_answer=text[:5], verdict="wrong", expected_answer=text[-4:])
    for name in measure_names():
        value = found.measured(name)
        assert isinstance(value, float) and not math.isinf(value)
    assert np.isfinite(text_vector(found)).all()


@pytest.mark.parametrize("text", ["\ud800 lone", "\x00" * 50, "$" * 4000, "\\boxed{" * 3000, "{" * 5000, "a" * 100_000])
def test_hostile_texts_are_measured_in_no_time(text):
    assert all(isinstance(view(text).measured(name), float) for name in measure_names())


def measured(*texts: str, problems: str | None = None) -> Measured:
    """The set of ``texts``, one per problem, or with the problems' one-letter ids."""
    found = Measured.empty(CONFIG, ["characters", "tokens"])
    for place, text in enumerate(texts):
        found.add(Found.of(view(text), found.names, problems[place] if problems else str(place)))
    return found


def alike(first: Measured, second: Measured) -> float | None:
    return compared(a=first, b=second).transition_similarity[0][2]


def compared(**sets: Measured):
    return structure(sets, CONFIG, resamples=500, confidence=0.95, seed=0)


def test_a_figure_is_the_mean_over_problems_of_the_mean_over_traces():
    profile = compared(a=measured("xx", "xxxx", "x" * 9, problems="ppq")).sets["a"]
    assert (profile.traces, profile.problems) == (3, 2)
    figure = profile.measures["characters"]
    assert figure.value == pytest.approx((3 + 9) / 2) and (figure.low, figure.high) == (3, 9) and figure.traces == 3
    absent = profile.measures["tokens"]
    assert (absent.value, absent.low, absent.high, absent.traces) == (None, None, None, 0)


def test_transitions_are_shares_of_the_next_step():
    found = measured("Plain.\n\nWait, no.\n\nPlain.", "Plain.\n\nPlain.")
    assert compared(a=found).sets["a"].transitions == {"straight": {"reflect": 0.5, "straight": 0.5}, "reflect": {"straight": 1.0}}
    assert probabilities(found.transitions).sum(axis=1)[found.transitions.any(axis=1)] == pytest.approx(1)


def test_likeness_of_transitions_is_pearsons_r():
    a = measured("Plain.\n\nWait, no.\n\nPlain.")
    assert alike(a, measured("Other.\n\nWait, no.\n\nOther.")) == pytest.approx(1)
    b = measured("Plain.\n\nPlain.\n\nPlain.\n\nWait, no.\n\nWait, no.\n\nWait, no.\n\nWait, so.")
    # rows (reflect, straight) x columns (reflect, straight): a = 0 1 / 1 0, b = 1 0 / 1/3 2/3
    expected = np.corrcoef([0, 1, 1, 0], [1, 0, 1 / 3, 2 / 3])[0, 1]
    assert alike(a, b) == pytest.approx(expected)
    assert alike(a, measured("One step.")) is None


def test_likeness_of_texts_is_the_mean_cosine_of_pairs():
    texts = ["alpha beta gamma", "alpha beta delta", "epsilon zeta"]
    vectors = [text_vector(view(text)).astype(float) for text in texts]
    found = compared(a=measured(*texts), b=measured(texts[0]))
    pairs = [vectors[i] @ vectors[j] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert found.sets["a"].similarity == pytest.approx(sum(pairs) / 3, abs=1e-3)
    assert found.sets["b"].similarity is None
    between = sum(v @ vectors[0] for v in vectors) / 3
    assert found.text_similarity == [("a", "b", pytest.approx(between, abs=1e-3))]


def test_what_all_texts_share_does_not_count_as_likeness():
    rows = distinctive([text_vector(view(f"common words of all {'red green' if i % 2 else 'hot cold'}")) for i in range(6)])
    assert rows[0] @ rows[2] == pytest.approx(1, abs=1e-3) and rows[0] @ rows[1] == pytest.approx(-1, abs=1e-3)


def test_a_file_is_split_by_a_key_of_its_rows_or_of_their_lineage(tmp_path):
    rows = [{"generation": "x", "annotator": "ann"}, {"generation": "yy", "lineage": [{"source": {"annotator": "bob"}}]},
            {"generation": "zzz", "lineage": [{"annotator": "bob"}]}]  # fmt: skip
    sets = measured_sets(write_lines(tmp_path / "t.jsonl", rows), CONFIG, by="annotator", label="t")
    assert {name: len(s.values) for name, s in sets.items()} == {"ann": 1, "bob": 2}
    with pytest.raises(UserError, match="no row has this key"):
        measured_sets(tmp_path / "t.jsonl", CONFIG, by="colour", label="t")


def test_several_processes_measure_what_one_does(tmp_path, monkeypatch):
    from nemo_cot.traces import parallel

    rows = [{"generation": f"{PAPER} {i} " * (1 + i % 7), "problem_id": str(i % 5)} for i in range(60)]
    path = write_lines(tmp_path / "t.jsonl", rows)
    alone = measured_sets(path, CONFIG, label="t")[""]
    monkeypatch.setattr(parallel, "ALONE", 0)
    monkeypatch.setattr(parallel, "AT_ONCE", 5000)
    several = measured_sets(path, CONFIG, label="t")[""]
    assert several.problem_ids == alone.problem_ids and np.array_equal(several.table, alone.table, equal_nan=True)
    assert np.array_equal(several.transitions, alone.transitions) and np.allclose(several.vectors, alone.vectors)
    with open(path, "a") as handle:
        handle.write('{"generation": 3}\n')
    with pytest.raises(UserError) as caught:
        measured_sets(path, CONFIG, label="t")
    assert caught.value.where.endswith("row 61") and "generation" in caught.value.what


def test_the_report_has_all_sets_beside_each_other_and_their_likeness_to_the_chosen():
    text = "Plain.\n\nWait, no.\n\nPlain."
    found = [compared(pool=measured("xx", text), chosen=measured(text)), compared(trained=measured(text), base=measured("One step."))]
    made = run_results(findings(structures=found), "t")
    table = tables.structure(made.structure, made.like_chosen)
    assert table.heads == ["pool", "chosen", "trained", "base"]
    rows = dict(table.rows)
    assert [cell.value for cell in rows["characters (characters)"]] == ["13.5", "25", "25", "9"]
    assert rows["characters (characters)"][0].interval == "2, 25"
    assert "tokens (tokens)" not in rows, "no set has tokens"
    assert [cell.value for cell in table.rows[-1][1]] == ["1.00", "", "1.00", ""]
    assert run_results(findings(), "t").structure == []
