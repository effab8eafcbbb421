# ruff: noqa: RUF001  (the signs of mathematics are meant as they stand)
"""Any text: never an exception, never past the deadline, the same verdict twice.

NEMO_COT_FUZZ=N runs N examples of each instead of the default few hundred.
"""

import os
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nemo_cot.grading import extract, grade_many
from nemo_cot.grading.answers.canonical import canonical_key
from nemo_cot.grading.answers.rules import INTERNAL_ERROR, grade_by_rules

EXAMPLES = int(os.environ.get("NEMO_COT_FUZZ", "300"))

PIECES = st.sampled_from(
    [
        r"\frac",
        r"\sqrt",
        r"\binom",
        r"\left(",
        r"\right)",
        r"\left\{",
        r"\right.",
        r"\{",
        r"\}",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "^",
        "_",
        "+",
        "-",
        "*",
        "/",
        "=",
        "<",
        r"\le ",
        ",",
        ";",
        ":",
        "!",
        "%",
        "|",
        "&",
        r"\\",
        "$",
        ".",
        r"\pm ",
        r"\mp ",
        r"\cup ",
        r"\in ",
        r"\infty",
        r"\pi ",
        r"\text{",
        r"\boxed{",
        r"\begin{pmatrix}",
        r"\end{pmatrix}",
        r"\sum_{k=1}^{9}",
        r"\int_0^1 ",
        "dx",
        r"\ldots ",
        r"\overline{",
        r"\log ",
        r"\sin ",
        "^\\circ",
        "e",
        "i",
        "x",
        "y",
        "n",
        "0",
        "1",
        "2",
        "3",
        "10",
        "016",
        "999",
        "0.5",
        "1,000",
        "and ",
        "or ",
        "the ",
        "answer is ",
        "cm",
        "√",
        "½",
        "²",
        "\u0000",
        "\ud7ff",
        "∞",
        "–",
        "\n",
        "\\",
        "\\,",
        "°",
        "C",
        "(A)",
    ]
)
TEXTS = st.one_of(
    st.lists(PIECES, max_size=40).map("".join),
    st.text(max_size=60),
    st.tuples(
        st.sampled_from(["(", "{", r"\frac{", r"\sqrt{", "2^{", "-", "x=", "((1,"]), st.integers(1, 90)
    ).map(lambda t: t[0] * t[1] + "1"),
)
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)


@SETTINGS
@given(TEXTS, TEXTS)
def test_rules_hold_for_any_two_texts(gold, answer):
    started = time.process_time()
    verdict, _ = grade_by_rules(gold, answer)
    assert time.process_time() - started < 15
    assert verdict.outcome in ("right", "wrong", "undecided")
    assert not verdict.reason.startswith(INTERNAL_ERROR), verdict
    assert grade_by_rules(gold, answer)[0] == verdict


@SETTINGS
@given(TEXTS)
def test_a_text_is_never_wrong_against_itself(text):
    verdict, _ = grade_by_rules(text, text + " ")
    assert verdict.outcome != "wrong" or not text.strip()
    assert isinstance(canonical_key(text), str)


@SETTINGS
@given(TEXTS)
def test_extraction_takes_any_text(text):
    for fallback in ("none", "phrase", "last_number"):
        found = extract(text, fallback=fallback)
        assert (found.answer is None) == (found.source is None) == bool(found.reason)


def test_workers_survive_a_mix():
    """The part of the fuzz that reaches math-verify, in one batch."""
    texts = []

    @settings(SETTINGS, max_examples=min(EXAMPLES, 100))
    @given(TEXTS)
    def collect(text):
        texts.append(text)

    collect()
    integrals = [(r"\frac12", rf"\int_0^1 {t} dx") for t in texts]
    started = time.monotonic()
    verdicts = grade_many([*integrals, ("5", "5.0")], workers=2, deadline_seconds=0.5)
    assert time.monotonic() - started < 60 + 3 * len(integrals)
    assert verdicts[-1].outcome == "right"
