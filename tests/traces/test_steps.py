"""Steps, sentences and the thought of a trace, on texts in the style of several sets: what is cut where, and
that nothing is lost.
"""

from __future__ import annotations

import time
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.steps import SPLITS, segment, sentences
from nemo_cot.traces.thought import split_thought


@cache
def marks(name: str = "english") -> Marks:
    return Marks(load_config([f"marks={name}"]).marks)


QWQ = """So I've got this problem: find $x$ with 2x + 3 = 11. First, I need to isolate x.

Subtract 3 from both sides:

\\[ 2x = 8

\\]

So, x = 4. Wait, is that right? 2*4 + 3 = 11. Yes.

But wait, what if x could be negative? No, a linear equation has one root, e.g. Maybe 4.

Hmm... Let me double-check with x = 4.5. That gives 12.

**Final Answer**

\\[ \\boxed{4} \\]"""
R1 = """<think>
Okay, so I need to find the sum of 1 to 10.
The formula is n(n+1)/2. Alternatively, I could add them up.

That\u2019s not right, I made a mistake. It is 55.
</think>

The sum is 55.

\\boxed{55}"""
NUMBERED = """**Step 1:** Let n be odd.
Then n = 2k + 1.
**Step 2:** Square it. We get 4k^2 + 4k + 1.
3. Therefore the square is odd: \\boxed{1}"""
HUMAN = """We want the area. The triangle has base 6 and height 4.

Half of $6 \\cdot 4$. But check: is the height 4? Yes.

Area is \\boxed{12}."""
PROCEDURAL = (
    "Start at 3.\nAdd 4: 4:3,5:2,6:1,7:0. Now 7.\nWait, let me check: 7-4=3. Good.\nThe answer is \\boxed{7}"
)
CHINESE = "首先，设x=3。等等，不对，应该是4。\n\n让我检查一下：2*4=8。\n\n所以答案是\\boxed{4}"  # noqa: RUF001


def cut(text: str, split: str = "paragraph", name: str = "english") -> list[tuple[str, str]]:
    """Kind and first words of each step."""
    return [(step.kind, step.text[:14]) for step in segment(text, marks(name), split=split)]


def test_a_trace_of_qwq():
    assert cut(QWQ) == [
        ("straight", "So I've got th"),
        ("straight", "Subtract 3 fro"),  # with the formula that it displays
        ("straight", "So, x = 4. "),
        ("check", "Wait, is that "),  # "wait" alone would be reflect
        ("alternative", "But wait, what"),
        ("check", "Hmm... Let me "),
        ("conclude", "**Final Answer"),
    ]


def test_steps_of_the_paper_begin_only_where_the_line_is_left():
    assert cut(QWQ, "shift") == [
        ("straight", "So I've got th"),
        ("check", "Wait, is that "),
        ("alternative", "But wait, what"),
        ("check", "Hmm... Let me "),
    ]


def test_a_trace_of_deepseek_r1():
    parts = split_thought(R1, marks())
    assert parts.before == "<think>\n" and parts.solution.startswith("\n</think>\n\nThe sum")
    assert [(step.kind, step.body) for step in segment(parts.thought, marks())] == [
        ("subgoal", "Okay, so I need to find the sum of 1 to 10.\nThe formula is n(n+1)/2."),
        ("alternative", "Alternatively, I could add them up."),
        ("backtrack", "That\u2019s not right, I made a mistake. It is 55."),
    ]


def test_a_heading_belongs_to_what_stands_below():
    text = "### Step 1\n\nAdd.\n\n**Check**\n\nWait, 3.\n\n**Final Answer**\n\n\\boxed{4}"
    assert [first for _, first in cut(text)] == ["### Step 1\n\nAd", "**Check**\n\nWai", "**Final Answer"]
    assert [first for _, first in cut(text, "shift")] == ["### Step 1\n\nAd", "**Check**\n\nWai"]
    assert split_thought(text, marks()).solution == "\n\n**Final Answer**\n\n\\boxed{4}"


def test_numbered_steps():
    assert cut(NUMBERED) == [
        ("straight", "**Step 1:** Le"), ("straight", "Then n = 2k + "), ("straight", "**Step 2:** Sq"), ("conclude", "3. Therefore t"),
    ]  # fmt: skip
    assert [kind for kind, _ in cut("So:\n\n" + NUMBERED)] == [
        "straight",
        "straight",
        "straight",
        "conclude",
    ], "lines no more"


def test_a_human_solution():
    assert cut(HUMAN) == [
        ("straight", "We want the ar"), ("straight", "Half of $6 \\cd"), ("check", "But check: is "), ("straight", "Area is \\boxed"),
    ]  # fmt: skip


def test_a_short_procedural_trace_has_a_step_per_line():
    assert cut(PROCEDURAL) == [
        ("straight", "Start at 3.\n"), ("straight", "Add 4: 4:3,5:2"), ("check", "Wait, let me c"), ("conclude", "The answer is "),
    ]  # fmt: skip


def test_chinese_needs_no_spaces():
    assert [kind for kind, _ in cut(CHINESE, name="mixed")] == ["subgoal", "backtrack", "check", "conclude"]
    assert [kind for kind, _ in cut(CHINESE, name="english")] == ["straight"] * 3


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Wait, that is 3.5 or so. But e.g. But 4.", ["Wait, that is 3.5 or so. ", "But e.g. But 4."]),
        ("1. Wait for it. 2. Go!", ["1. Wait for it. ", "2. Go!"]),
        ('He said "no." Maybe. $a. b$ c. `x`', ['He said "no." ', "Maybe. ", "$a. b$ c. ", "`x`"]),
        ("Set $5. Then stop.", ["Set $5. ", "Then stop."]),
        (
            "A:\n\\begin{align}\na. b\n\nc\n\\end{align}\nB",
            ["A:\n", "\\begin{align}\na. b\n\nc\n\\end{align}\n", "B"],
        ),
        ("Is it? Yes! **Bold.** No", ["Is it? ", "Yes! ", "**Bold.** ", "No"]),
        ("a\r\n\r\nb\r\nc", ["a\r\n\r\n", "b\r\n", "c"]),
        ("", []),
        ("  x. ", ["  x. "]),
    ],
)
def test_sentences(text, expected):
    assert sentences(text) == expected


@pytest.mark.parametrize(
    "opening, kind",
    [
        ("Wait, let me check this", "check"),
        ("wait", "reflect"),
        ("Waiting for it", "straight"),
        ("Butter is fat", "straight"),
        ("So but no", "reflect"),
        ("**Wait**, no, that's wrong", "backtrack"),
        ("2. Alternatively, let me verify", "alternative"),
        ("Step 4: check", "check"),
        ("Okay. But", "straight"),  # another sentence
        ("Okay\nbut", "straight"),  # another line
        ("LET\u2019S CHECK", "check"),
        ("the check", "straight"),
        ("\u0130 but", "straight"),
    ],
)
def test_the_kind_of_an_opening(opening, kind):
    assert marks().opening(opening) == kind


def test_marks_within_a_text():
    found = [
        ("İ But waiting, let me check again, wait"[m.start : m.end], m.kind)
        for m in marks().find("İ But waiting, let me check again, wait")
    ]
    assert found == [("But", "reflect"), ("let me check", "check"), ("wait", "reflect")]
    assert list(marks("none").find("But wait")) == [] and marks("none").opening("But") == "straight"


@pytest.mark.parametrize(
    "text, before, thought, solution",
    [
        ("a\n</think>\nb", "", "a", "\n</think>\nb"),  # the prompt opened it
        ("x <think> a </think> b", "x <think> ", "a", " </think> b"),
        ("<think>a</think>b</think>c", "<think>", "a</think>b", "</think>c"),
        ("<think></think>b", "<think>", "", "</think>b"),
        (
            "<|begin_of_thought|>\n\na\n\n<|end_of_thought|>\n\nb",
            "<|begin_of_thought|>\n\n",
            "a",
            "\n\n<|end_of_thought|>\n\nb",
        ),
        ("<|im_start|>think\na<|im_start|>answer\nb", "<|im_start|>think\n", "a", "<|im_start|>answer\nb"),
        ("<think>\na\n\nso \\boxed{3}\n\nend", "<think>\n", "a", "\n\nso \\boxed{3}\n\nend"),  # never closed
        ("a\n\n\\boxed{1}\n\nb\n\n\\boxed{2}\n\nc", "", "a\n\n\\boxed{1}\n\nb", "\n\n\\boxed{2}\n\nc"),
        ("a\n\nb\n\nc", "", "a\n\nb", "\n\nc"),  # no box: the last step
        ("It is 3. So \\boxed{3}. Good.", "", "It is 3.", " So \\boxed{3}. Good."),  # one step: the sentence
        ("\\boxed{3}", "", "", "\\boxed{3}"),
        ("", "", "", ""),
    ],
)
def test_the_parts_of_a_trace(text, before, thought, solution):
    assert split_thought(text, marks()) == (before, thought, solution)


PIECES = ["Wait, ", "but", "\n", "\n\n", "\r\n", ". ", "1. ", "Step 2:", "$", "$$", "\\[", "\\]", "```", "\\begin{a}", "\\end{a}",
          "<think>", "</think>", "\\boxed{1}", "等等", "。", "İ", "x", " ", "e.g.", "\u2028", "\ud800"]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=80)


@settings(deadline=None)
@given(texts, st.sampled_from(SPLITS))
def test_nothing_is_lost(text, split):
    steps = segment(text, marks("mixed"), split=split)
    assert "".join(step.text for step in steps) == text and all(step.text for step in steps)
    assert "".join(step.body + step.gap for step in steps) == text
    assert "".join(sentences(text)) == text
    parts = split_thought(text, marks("mixed"))
    assert "".join(parts) == text and parts.thought == parts.thought.strip()


@settings(deadline=None)
@given(texts)
def test_steps_of_the_paper_are_unions_of_the_finer_ones(text):
    fine = {len(step.text) for step in segment(text, marks())}

    def ends(split):
        at, found = 0, set()
        for step in segment(text, marks(), split=split):
            at += len(step.text)
            found.add(at)
        return found

    assert ends("shift") <= ends("paragraph") or not fine


@pytest.mark.parametrize(
    "piece",
    ["\\[", "$", "$$ ", "```", "\\begin{a}", "<think>", "\n", "but ", "1. ", ". ", "**", "\\boxed{", " \n"],
)
def test_hostile_texts_take_linear_time(piece):
    started = time.process_time()
    split_thought(piece * (400_000 // len(piece)), marks())
    assert time.process_time() - started < 60


@pytest.mark.parametrize(
    "override, parts",
    [
        ("marks.words.english.straight=[x]", ("marks.words.english.straight", "without a mark")),
        ("marks.words.english.check=['?']", ("marks.words.english.check", "no letter")),
        ("marks.shifts=[chek]", ("marks.shifts", "check")),
        ("marks.thoughts=[['<t>']]", ("marks.thoughts", "pair")),
        ("marks=englisch", ("marks", "english")),
    ],
)
def test_a_mistake_is_one_line_with_its_key(override, parts):
    with pytest.raises(UserError) as caught:
        load_config([override])
    assert all(part in str(caught.value) for part in parts), caught.value


def test_words_of_ones_own():
    assert Marks(load_config(["marks.words.english.check=[tick]"]).marks).opening("Tick: 3") == "check"
    assert (
        Marks(load_config(["marks.words.french.check=['vérifions']"]).marks).opening("Vérifions: 3")
        == "check"
    )
