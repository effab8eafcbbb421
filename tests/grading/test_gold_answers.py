"""Real gold answers: each against itself, against itself in other spellings, against the others."""

import random
import re

import pytest

from nemo_cot.grading import grade_many
from tests.grading.shared_data import competition_golds, math500_golds

OPTIONS = {"workers": 2, "deadline_seconds": 5.0}

TEXT_GOLDS = (r"\text {", "all primes", "All positive", "works if", r"\ldots")
"""What marks the golds that are text or have an ellipsis: these may be undecided."""


def is_text(gold: str) -> bool:
    return any(mark in gold for mark in TEXT_GOLDS)


def pad(gold: str) -> str:
    return f"0{gold}" if gold.isdigit() else gold


def thousands(gold: str) -> str:
    return f"{int(gold):,}" if gold.isdigit() and len(gold) > 3 else gold


def latex_thousands(gold: str) -> str:
    return thousands(gold).replace(",", "{,}") if gold.isdigit() else gold


SPELLINGS = {
    "itself": lambda g: g,
    "blanks around": lambda g: f"  {g} ",
    "blanks at operators": lambda g: (
        re.sub(r"([=+,])", r" \1 ", g) if not re.search(r"\d,\d{3}|\\text", g) else g
    ),
    "no blanks": lambda g: re.sub(r"(?<![a-zA-Z\\]) (?![a-zA-Z])", "", g),
    "dfrac": lambda g: re.sub(r"\\frac(?![a-zA-Z])", r"\\dfrac", g),
    "tfrac": lambda g: re.sub(r"\\d?frac(?![a-zA-Z])", r"\\tfrac", g),
    "zero padding": pad,
    "thousands marks": thousands,
    "LaTeX thousands marks": latex_thousands,
    "dollars stripped": lambda g: re.sub(r"(?<!\\)\$", "", g),
    "in dollars": lambda g: g if "$" in g else f"${g}$",
    "display mathematics": lambda g: r"\[" + re.sub(r"(?<!\\)\$", "", g) + r"\]",
    "full stop": lambda g: g + ".",
    "sentence": lambda g: f"The answer is {g}.",
    "left and right": lambda g: re.sub(r"(?<!\\left)([(\[])(.*)([)\]])$", r"\\left\1\2\\right\3", g),
    "thin spaces": lambda g: g.replace(" ", r"\, ") if r"\text" not in g and r"\!" not in g else g,
    "named": lambda g: g if re.search(r"[=<>,]|\\in|\\text|\\pm|[a-zA-Z]{4}.* [a-z]+ ", g) else f"x = {g}",
    "in a group": lambda g: "{" + re.sub(r"(?<!\\)\$", "", g).rstrip(".") + "}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("golds", [competition_golds, math500_golds])
def test_a_gold_is_right_in_every_spelling(golds, spelling):
    answers = golds()
    pairs = [(g, SPELLINGS[spelling](g)) for g in answers]
    verdicts = grade_many(pairs, **OPTIONS)
    failed = [
        (pair, verdict)
        for pair, verdict in zip(pairs, verdicts)
        if verdict.outcome != "right" and not (verdict.outcome == "undecided" and is_text(pair[0]))
    ]
    assert not failed
    assert sum(v.outcome == "undecided" for v in verdicts) <= 4


def test_another_problems_gold_is_right_only_where_it_is_equal():
    golds = competition_golds()
    chosen = random.Random(0)
    every = sorted({(a, b) for i, a in enumerate(golds) for j, b in enumerate(golds) if i != j})
    pairs = [p for p in chosen.sample(every, 20_000) if p[0] != p[1]]
    verdicts = grade_many(pairs, **OPTIONS)
    right = sorted({tuple(sorted(p)) for p, v in zip(pairs, verdicts) if v.outcome == "right"})
    assert right == EQUAL_GOLDS
    undecided = {p[0] if is_text(p[0]) else p[1] for p, v in zip(pairs, verdicts) if v.outcome == "undecided"}
    assert all(is_text(g) for g in undecided), "only text may leave a verdict open"


EQUAL_GOLDS = []
"""Pairs of golds, spelled differently, that are the same number (of all sampled)."""


def test_bracketed_golds_of_math500_differ_from_each_other():
    golds = sorted({g for g in math500_golds() if re.match(r"(?:\\left)?\s*[(\[]", g)})
    assert len(golds) >= 15
    pairs = [(a, b) for a in golds for b in golds if a != b]
    verdicts = grade_many(pairs, **OPTIONS)
    assert not [(p, v) for p, v in zip(pairs, verdicts) if v.outcome != "wrong"]
