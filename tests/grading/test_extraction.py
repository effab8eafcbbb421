# ruff: noqa: RUF001  (the signs of mathematics are meant as they stand)
"""Extraction: the last complete box, what follows "the answer is", the last number, and why nothing."""

import pytest

from nemo_cot.grading import extract, extract_answer, grade

BOXES = [
    (r"so \boxed{5}.", "5"),
    (r"\boxed{1} then \boxed{2} done", "2"),
    (r"\boxed{5} and then \boxed{6", "5"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{\left\{ 1, 2 \right\}}", r"\left\{ 1, 2 \right\}"),
    (
        r"\boxed{\left\{\begin{array}{l} a \\ b \end{array}\right.} text",
        r"\left\{\begin{array}{l} a \\ b \end{array}\right.",
    ),
    (r"\boxed 5 is it", "5"),
    (r"\boxed5", "5"),
    (r"\boxed  {5}", "5"),
    (r"\boxed 1,234.5", "1,234.5"),
    (r"\boxed\frac{1}{2}", r"\frac{1}{2}"),
    (r"\fbox{7}", "7"),
    (r"\boxed{1} then \fbox{7}", "7"),
    # boxes of one sentence are one answer
    (r"so $x=\boxed{3}$ and $y=\boxed{4}$.", "x=3, y=4"),
    (r"$x = \boxed{3}, y = \boxed{4}$", "x=3, y=4"),
    (r"\boxed{3} and \boxed{4}", "3, 4"),
    (r"$\boxed{3}$, $\boxed{4}$, and $\boxed{5}$", "3, 4, 5"),
    (r"$\boxed{x=3}$ or $\boxed{x=5}$", r"x=3 \text{ or } x=5"),
    (r"\boxed{1/2} or \boxed{0.5}", "0.5"),
    (r"First \boxed{1}. Then, so \boxed{2}", "2"),
    (r"$a=\boxed{3}$", "3"),
    # an echo of the format hides nothing
    (r"it is \boxed{42}. I put it in the form \boxed{answer}", "42"),
    (r"it is \boxed{42}. \boxed{...}", "42"),
    (r"it is \boxed{42}, as asked \boxed{\text{your answer}}", "42"),
    ("it is \\boxed{42}.\n```python\nprint(f'\\boxed{{{ans}}}')\n```", "42"),
    # what follows the thoughts comes first
    (r"<think>\boxed{5}</think> So \boxed{6}", "6"),
    (r"<think>\boxed{5}</think> done", "5"),
    (r"<think>\boxed{5}", "5"),
    # backslashes that a string literal has eaten
    ("\\boxed{\x0crac{1}{2}}", r"\frac{1}{2}"),
    ("\x08oxed{5}", "5"),
    (r"\boxed{\boxed{5}}", "5"),
    (r"\boxed{5} Put the answer in \boxed{}.", "5"),
    (r"\boxed{ x = 5 } which is the answer", "x = 5"),
    ("\\boxed{\n5\n}", "5"),
    (r"\boxed{\}}", r"\}"),
    (r"\boxed{a}b}", "a"),
    (r"{\boxed{5}", "5"),
]


@pytest.mark.parametrize(("text", "answer"), BOXES)
def test_boxes(text, answer):
    found = extract(text, fallback="none")
    assert (found.answer, found.source, found.reason) == (answer, "boxed", "")
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty text"),
        ("the answer is 5", "no box"),
        (r"\boxed{5", "unclosed box"),
        (r"\boxed{}", "empty box"),
        (r"\boxed{\boxed{}}", "empty box"),
        (r"\boxed", "empty box"),
        (r"\boxedx{5}", "no box"),
        (r"in the form \boxed{answer}", "a box for the answer, without it"),
    ],
)
def test_why_nothing_was_found(text, reason):
    found = extract(text, fallback="none")
    assert (found.answer, found.source, found.reason) == (None, None, reason)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("I think the answer is 5.", "5"),
        ("The final answer is: $\\frac{1}{2}$. Good.", "$\\frac{1}{2}$"),
        ("**Answer:** 42", "42"),
        ("Answer: 3.5 meters\nBye", "3.5 meters"),
        ("The answer is 4. No, the answer is 6.", "6"),
        ("the answer to the question is 12", "12"),
        ("Final answer = 9", "9"),
        ("The answer is \\(x=3\\), as shown", "\\(x=3\\)"),
        ("**Final Answer**\n\n42", "42"),
        ("### Final Answer\n42", "42"),
        ("3 + 4 = 7\n#### 24", "24"),
        ("<answer>42</answer>", "42"),
        ("所以答案是 15", "15"),
        ("答案：15。", "15"),
        ("Answer: (B)", "(B)"),
        ("<think>The answer is 5</think> The answer is 6.", "6"),
    ],
)
def test_phrases(text, answer):
    assert extract(text, fallback="phrase").answer == answer
    assert extract(text, fallback="phrase").source == "phrase"
    assert extract(text, fallback="none").answer is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("it has 3 apples and 1,234 pears", "1,234"),
        ("x = -5", "-5"),
        ("so 3.25 remain", "3.25"),
        ("ratio 3/4 holds", "3/4"),
        ("it is 7.", "7"),
        ("about 50%", "50%"),
    ],
)
def test_last_number(text, answer):
    found = extract(text, fallback="last_number")
    assert (found.answer, found.source) == (answer, "last_number")
    assert extract(text, fallback="phrase").answer is None


def test_the_fallbacks_come_after_the_box_and_each_other():
    text = r"the answer is 4; count 9; \boxed{5}"
    assert extract(text, fallback="last_number").answer == "5"
    assert extract("the answer is x, see 9", fallback="last_number").source == "phrase"
    assert (
        extract("nothing here", fallback="last_number").reason
        == "no box; no phrase like 'the answer is'; no number"
    )


def test_another_fallback_is_refused():
    with pytest.raises(ValueError, match="none, phrase, last_number"):
        extract("x", fallback="first")


@pytest.mark.parametrize(
    ("text", "counts", "ignored"),
    [
        (r"<think>\boxed{5}</think>", "5", None),
        (r"<think>\boxed{5}</think>\boxed{6}", "6", "6"),
        (r"<think>\boxed{5}", "5", None),
    ],
)
def test_an_answer_in_the_thoughts_counts_by_choice(text, counts, ignored):
    assert extract(text, fallback="none", thoughts="last_resort").answer == counts
    assert extract(text, fallback="none", thoughts="ignore").answer == ignored
    with pytest.raises(ValueError, match="last_resort, ignore"):
        extract(text, fallback="none", thoughts="never")


def test_boxes_of_one_sentence_are_graded_as_one_answer():
    answer = extract(r"so $x=\boxed{3}$ and $y=\boxed{4}$.", fallback="none").answer
    assert [grade(gold, answer).outcome for gold in ("x=3,y=4", "(3,4)", "x=4,y=3", "3")] == [
        "right",
        "right",
        "wrong",
        "wrong",
    ]
