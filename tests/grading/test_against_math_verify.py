"""Where our verdicts differ from plain math-verify's: only in classes that are listed here."""

import random
import re
import sys
from pathlib import Path

import pytest

from nemo_cot.grading import grade_many
from tests.grading.shared_data import competition_golds

BENCHMARKS = str(Path(__file__).resolve().parents[2] / "benchmarks")
PAIRS = 500


def trailing_stop(gold: str, answer: str) -> bool:
    """math-verify reads nothing in an answer whose last character is a full stop."""
    return answer.endswith(".")


def text_gold(gold: str, answer: str) -> bool:
    """A gold of words or with an ellipsis: math-verify compares the numbers in it."""
    return (
        bool(re.search(r"[A-Za-z]{3,}", re.sub(r"\\[A-Za-z]+", "", gold))) or "ldots" in gold or "..." in gold
    )


def list_gold(gold: str, answer: str) -> bool:
    """A list of numbers: math-verify reads the commas as thousands marks, or drops repeats."""
    return "," in gold


def cancels_in_huge_number(gold: str, answer: str) -> bool:
    """Compared in floating point, a term or a factor beside a number of 600 digits is lost."""
    return "2024" in gold


INTENDED = {
    (False, "right"): (trailing_stop, list_gold),
    (True, "undecided"): (text_gold, list_gold),
    (True, "wrong"): (list_gold, cancels_in_huge_number),
}


@pytest.fixture(scope="module")
def differing():
    """Pairs of the benchmark's rows on which the two differ: ((math-verify, ours), pair)."""
    competition_golds()  # skips where the data is absent
    sys.path.insert(0, BENCHMARKS)
    try:
        from grade_speed import plain_math_verify, rows
    finally:
        sys.path.remove(BENCHMARKS)
    pairs = sorted(set(rows()))
    known = [
        p for p in pairs if trailing_stop(*p) or text_gold(*p) or cancels_in_huge_number(*p) or list_gold(*p)
    ]
    pairs = random.Random(0).sample(pairs, PAIRS) + random.Random(1).sample(known, 100)
    ours = [v.outcome for v in grade_many(pairs, workers=2, deadline_seconds=5.0)]
    theirs = [plain_math_verify(*pair) for pair in pairs]
    return [((t, o), pair) for t, o, pair in zip(theirs, ours, pairs) if (o == "right") != t]


def test_every_difference_is_of_a_listed_class(differing):
    unlisted = [(kind, pair) for kind, pair in differing if not any(rule(*pair) for rule in INTENDED[kind])]
    assert unlisted == []


def test_the_sample_holds_differences_of_both_directions(differing):
    kinds = {kind for kind, _ in differing}
    assert (False, "right") in kinds and (True, "undecided") in kinds
