"""The verdict that the typed rules give, or none: bounded in time and memory for any text."""

from __future__ import annotations

import re

from nemo_cot.grading.answers.comparison import compare
from nemo_cot.grading.answers.kinds import Choice, Items, Scalar, Unread
from nemo_cot.grading.answers.latex_text import clean, squeeze
from nemo_cot.grading.answers.reading import read, read_choice
from nemo_cot.grading.answers.scalars import Finding
from nemo_cot.grading.answers.tokens import MAX_CHARACTERS
from nemo_cot.grading.answers.values import start_budget
from nemo_cot.grading.verdict import RIGHT, UNDECIDED, WRONG, Verdict

_LETTER_GOLD = re.compile(
    r"\(?\s*(?:\\(?:text|textbf|mathrm|mathbf|textrm)\s*\{\s*)?\(?\s*[A-J]\s*\)?\s*\}?\s*\)?"
)

_LETTERED_GOLD = re.compile(
    r"\s*\$?\s*(?:\\(?:text|textbf|mathrm|mathbf|textrm)\s*\{\s*)?\(([A-J])\)(?:\s|~|\\[ ,])*\}?(?:\s|~|\\[ ,])*([^\s}].*)",
    re.DOTALL,
)
_LEADING_COMMA = re.compile(r"[\s$]*,\s*\d")
_THOUSANDS = re.compile(r"(?<![\d,.(\[{])\d{1,3}(?:,\d{3})+(?![\d,)\]}])")

INTERNAL_ERROR = "internal-error"
"""Reason of a verdict that a fault in the rules prevented; tests and fuzzing look for it."""


def grade_by_rules(gold: str, prediction: str | None) -> tuple[Verdict, bool]:
    """Verdict of the typed rules, and whether math-verify may know better (it cannot if False)."""
    if prediction is None or not prediction.strip():
        return Verdict(WRONG, "no-answer"), False
    if not gold.strip():
        return Verdict(UNDECIDED, "gold-empty"), False
    if gold.strip() == prediction.strip():
        return Verdict(RIGHT, "same-text"), False
    if len(prediction) > MAX_CHARACTERS or len(gold) > MAX_CHARACTERS:
        side, text = ("gold", gold) if len(gold) > MAX_CHARACTERS else ("answer", prediction)
        return Verdict(UNDECIDED, f"{side}-too-long: {len(text)} characters"), False
    if _LEADING_COMMA.match(gold) or _LEADING_COMMA.match(prediction):
        return Verdict(UNDECIDED, "open: a comma before the digits"), False
    try:
        if squeeze(gold) == squeeze(prediction):
            return Verdict(RIGHT, "same-formula"), False
        lettered = _LETTERED_GOLD.fullmatch(gold)
        if lettered:
            return _grade_lettered(*lettered.groups(), prediction)
        if _LETTER_GOLD.fullmatch(clean(gold)):
            return _grade_choice(gold, prediction), False
        return _grade_readings(gold, prediction)
    except Exception as error:  # a fault of ours in one answer must not end a run over 16,384
        return Verdict(UNDECIDED, f"{INTERNAL_ERROR}: {type(error).__name__}"), False


def _grade_lettered(letter: str, value: str, prediction: str) -> tuple[Verdict, bool]:
    """A gold that is an option with its text, (C) 12: the letter or the text may be given."""
    answer = read_choice(prediction)
    if answer is None:
        return _grade_readings(value, prediction)
    return _verdict(compare(Choice(letter, read(value)[0]), answer)), False


def _grade_choice(gold: str, prediction: str) -> Verdict:
    letter, answer = read_choice(gold), read_choice(prediction)
    if answer is None:
        return Verdict(UNDECIDED, "choice: the gold is a letter, the answer is not")
    return _verdict(compare(Choice(letter.letter), answer))


def _grade_readings(gold: str, prediction: str) -> tuple[Verdict, bool]:
    """Right if the likely reading of the gold fits any reading of the answer; open if only another does."""
    start_budget()
    golds, answers = read(gold), read(prediction)
    if (
        isinstance(golds[0], Items) and golds[0].kind == "list"
    ):  # a list of four groups is no number, but an answer may be one
        golds = golds[:1]
    findings = [[compare(g, a) for a in answers] for g in golds]
    likely = next((f for f in findings[0] if f.equal), None)
    if likely:
        return _verdict(likely), False
    for row in findings[1:]:
        other = next((f for f in row if f.equal), None)
        if other:
            certain = not _open_readings(golds)
            return (_verdict(other) if certain else Verdict(UNDECIDED, "gold-has-two-readings")), False
    unsure = next((f for row in findings for f in row if f.equal is None), None)
    if unsure is None and _has_unread_thousands(gold, prediction):
        return _grade_readings(_without_commas(gold), _without_commas(prediction))
    if unsure is None and (_is_open_comma(gold, prediction) or _is_formula_of_atoms(gold, prediction)):
        return Verdict(UNDECIDED, "open: a decimal comma, or atoms"), False
    if unsure is None:
        return _verdict(findings[0][0]), False
    unread = [a for a in (*golds, *answers) if isinstance(a, Unread)]
    return _verdict(unsure), bool(unread) and all(a.latex for a in unread)


def _has_unread_thousands(gold: str, prediction: str) -> bool:
    """1,234.5 or x=1,234: read as a list, but the commas may be thousands marks."""
    texts = [squeeze(t).replace("{,}", ",") for t in (gold, prediction)]
    marked = [t for t in texts if _THOUSANDS.search(t) and not re.fullmatch(r"[\d,]+", t)]
    return len(marked) == 1 and not re.search(r"\d,\d", texts[1 - texts.index(marked[0])])


def _without_commas(text: str) -> str:
    return _THOUSANDS.sub(lambda match: match.group().replace(",", ""), squeeze(text).replace("{,}", ","))


def _is_open_comma(gold: str, prediction: str) -> bool:
    """0,5 against 0.5: a list or a decimal comma."""
    texts = [squeeze(t) for t in (gold, prediction)]
    points = [re.sub(r"^(-?\d{1,3})\.(\d{3}),(\d+)$", r"\1\2.\3", t) for t in texts]
    points = [re.sub(r"(\d),(\d)" if ";" in t else r"^(-?\d+),(?!\d{3}$)(\d+)$", r"\1.\2", t) for t in points]
    return points != texts and bool(compare(*(read(t)[0] for t in points)).equal)


def _is_formula_of_atoms(gold: str, prediction: str) -> bool:
    """H2O against \\mathrm{H_2O}."""
    bare = {re.sub(r"\\[a-z]+|[^\w]|_", "", clean(t)) for t in (gold, prediction)}
    return len(bare) == 1 and re.fullmatch(r"(?:[A-Z][a-z]?\d*){2,}", bare.pop()) is not None


def _open_readings(golds: tuple) -> bool:
    """Whether the readings exclude each other (1,234 as a number or a list), unlike point and interval."""
    kinds = {type(g) for g in golds}
    return {Scalar, Items} <= kinds


def _verdict(finding: Finding) -> Verdict:
    outcome = {True: RIGHT, False: WRONG, None: UNDECIDED}[finding.equal]
    return Verdict(outcome, finding.reason)
