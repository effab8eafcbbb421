"""The structure of traces, as far as texts show it: one function per measure, found by its name.

A measure takes a :class:`View` of one trace and returns a number, NaN where it is not defined. Its docstring
gives the formula, the unit in square brackets, and the source. To add one, write it here or below, with
``@measure``. The words behind "marks" are those of conf/marks.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import numpy as np

from nemo_cot.grading.extraction import boxes
from nemo_cot.traces.marks import CJK, Marks
from nemo_cot.traces.steps import Step, segment

NGRAM = 8
"""Words of repeated_ngrams: long enough that formulas of a few symbols do not count."""
WINDOW = 100
"""Words of lexical_diversity."""
LONGEST_PERIOD = 300
"""Words of the longest loop that is looked for at the end of a trace."""
REVIEW = ("backtrack", "check", "reflect")
"""The kinds of steps that look back on what was written."""
_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+(?:['’][^\W{CJK}]+)*")  # noqa: RUF001


class Row(Protocol):
    """What is read of a trace."""

    generation: str
    finish_reason: str | None
    verdict: str | None
    expected_answer: str | None
    predicted_answer: str | None


class View:
    """One trace, with what several measures need of it, each computed once. ``tokens``: its length, None if
    unknown.
    """

    def __init__(self, row: Row, marks: Marks, tokens: int | None) -> None:
        self.row, self.text, self.marks, self.tokens = row, row.generation, marks, tokens
        self._measured: dict[str, float] = {}

    def measured(self, name: str) -> float:
        """The measure ``name``, computed once."""
        if name not in self._measured:
            self._measured[name] = MEASURES[name](self)
        return self._measured[name]

    @cached_property
    def steps(self) -> list[Step]:
        """The steps of the whole text."""
        return segment(self.text, self.marks)

    @cached_property
    def words(self) -> list[str]:
        """Words in lower case; a character of a script without spaces is a word."""
        return _WORD.findall(self.text.lower())

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Each word with a number of its own, from 0, in the order in which they first stand."""
        return {word: number for number, word in enumerate(dict.fromkeys(self.words))}

    @cached_property
    def numbers(self) -> np.ndarray:
        """The words as numbers of the vocabulary, int64 [words]."""
        return np.fromiter(map(self.vocabulary.__getitem__, self.words), np.int64, len(self.words))

    @cached_property
    def span_hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """Sums of the hashed words times powers of an odd number, from the first word on, uint64 [words + 1],
        and the powers, uint64 [words]: the difference of two sums is a hash of the span between them, times a
        power.
        """
        powers = np.ones(len(self.numbers), dtype=np.uint64)
        powers[1:] = 0x9E3779B97F4A7C15
        powers = np.cumprod(powers, dtype=np.uint64)
        hashed = mixed(self.numbers) * powers
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashed, dtype=np.uint64)]), powers

    @cached_property
    def marked(self) -> Counter[str]:
        """How often marks of each kind stand anywhere in the text."""
        return Counter(mark.kind for mark in self.marks.find(self.text))

    @cached_property
    def kinds(self) -> list[str]:
        """The kind of each step."""
        return [step.kind for step in self.steps]


Measure = Callable[[View], float]
MEASURES: dict[str, Measure] = {}


def measure(function: Measure) -> Measure:
    """Make ``function`` a measure, under its own name."""
    MEASURES[function.__name__] = function
    return function


def measure_names() -> list[str]:
    """The names of all measures of one trace, in the order in which they are shown."""
    return list(MEASURES)


SURPRISE = {"surprise": "nats per token", "surprise_per_step": "nats per step"}
"""Measures that need a model (nemo_cot/traces/surprise.py), with their units."""


def unit_of(name: str) -> str:
    """The unit of a measure: the last text in square brackets in its docstring's first paragraph."""
    return (
        SURPRISE.get(name) or re.findall(r"\[([^\]]*)\]", (MEASURES[name].__doc__ or "").split("\n\n")[0])[-1]
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


@measure
def tokens(view: View) -> float:
    """Tokens of the student, or else of the model that wrote it, the end-of-turn token included [tokens].

    2502.07374.
    """
    return math.nan if view.tokens is None else float(view.tokens)


@measure
def characters(view: View) -> float:
    """Unicode characters of the text [characters]."""
    return float(len(view.text))


@measure
def steps(view: View) -> float:
    """Steps, as nemo_cot/traces/steps.py cuts them [steps]. 2502.07374."""
    return float(len(view.steps))


@measure
def step_length(view: View) -> float:
    """Characters / steps [characters]. 2509.19284 asks whether longer steps are better."""
    return _share(len(view.text), len(view.steps))


@measure
def keywords(view: View) -> float:
    """Marks of the kinds that leave the straight line (marks.shifts), anywhere in the text [count].
    2502.07374.
    """
    return float(sum(view.marked[kind] for kind in view.marks.shifts))


@measure
def keyword_density(view: View) -> float:
    """keywords / words [per word]. 2502.07374."""
    return _share(keywords(view), len(view.words))


@measure
def opening_rate(view: View) -> float:
    """1 if a step opens with a mark of backtracking or checking, else 0; the mean is the share of traces [share].

    2502.07374.
    """
    return float(any(kind in ("backtrack", "check") for kind in view.kinds))


@measure
def shift_share(view: View) -> float:
    """Steps that open with a mark of marks.shifts / steps [share]."""
    return _share(sum(kind in view.marks.shifts for kind in view.kinds), len(view.kinds))


@measure
def review_ratio(view: View) -> float:
    """Characters of steps of the kinds backtrack, check and reflect / all characters [share]. 2509.19284."""
    return _share(sum(len(step.text) for step in view.steps if step.kind in REVIEW), len(view.text))


@measure
def switches(view: View) -> float:
    """Steps that open with a mark of an alternative: switches of the line of thought [count]. 2501.18585."""
    return float(view.kinds.count("alternative"))


@measure
def switch_interval(view: View) -> float:
    """tokens / (switches + 1): the mean length of a line of thought [tokens]. 2501.18585."""
    return tokens(view) / (switches(view) + 1)


@measure
def branching_density(view: View) -> float:
    """switches / steps: steps that open with "alternatively", "another", "perhaps" [share]. 2604.01702."""
    return _share(switches(view), len(view.kinds))


@measure
def verification(view: View) -> float:
    """Marks of checking, anywhere in the text [count]. 2503.01307, by words in place of a language model."""
    return float(view.marked["check"])


@measure
def backtracking(view: View) -> float:
    """Marks of backtracking, anywhere in the text [count]. 2503.01307, by words."""
    return float(view.marked["backtrack"])


@measure
def subgoals(view: View) -> float:
    """Marks of subgoals, anywhere in the text [count]. 2503.01307, by words."""
    return float(view.marked["subgoal"])


@measure
def backward_chaining(view: View) -> float:
    """Marks of working backwards, anywhere in the text [count]. 2503.01307, by words."""
    return float(view.marked["backward"])


@measure
def repeated_ngrams(view: View) -> float:
    """1 - different 8-grams of words / all of them; NaN for fewer than 8 words [share]."""
    total = len(view.words) - NGRAM + 1
    return 1 - _different(view, NGRAM) / total if total > 0 else math.nan


@measure
def compression(view: View) -> float:
    """Bytes of the text compressed by zlib, level 6 / its bytes in UTF-8; small: repetitive [ratio]."""
    raw = view.text.encode("utf-8", "surrogatepass")
    return _share(len(zlib.compress(raw, 6)), len(raw))


@measure
def longest_repeat(view: View) -> float:
    """Words of the longest span that stands at two places, which may overlap [words]."""
    low, high = 0, max(0, len(view.words) - 1)
    while low < high:  # a span of n words that repeats holds one of n - 1
        middle = (low + high + 1) // 2
        if _different(view, middle) < len(view.words) - middle + 1:
            low = middle
        else:
            high = middle - 1
    return float(low)


@measure
def loop(view: View) -> float:
    """Words of a loop at the end (3 or more times the same span of at most 300 words) / words [share]."""
    words, best = view.numbers, 0
    for period in range(1, min(LONGEST_PERIOD, len(words) // 3) + 1):
        if words[-1] != words[-1 - period]:
            continue
        differs = np.flatnonzero(words[period:] != words[:-period])
        run = len(words) - period - (int(differs[-1]) + 1 if differs.size else 0)
        if run >= 2 * period:
            best = max(best, run + period)
    return _share(best, len(words))


@measure
def answer_position(view: View) -> float:
    """Where the trace's final value first stands / characters: exploration before the conclusion [share].

    The final value is the graded one, else the last box's; NaN without one, or where the text does not hold
    it.
    """
    value = view.row.predicted_answer
    if not value and (found := boxes(view.text)):
        value = view.text[slice(*found[-1])]
    at = _first_at(view.text, value)
    return math.nan if at is None else at / len(view.text)


@measure
def underthinking(view: View) -> float:
    """1 - where the expected answer first stands / characters, 0 if nowhere, of wrong traces; NaN for others
    [share].

    2501.18585, xi = (1/N) sum (1 - T_first_right / T), with characters for tokens and the value for a judge's
    word.
    """
    if view.row.verdict != "wrong" or not view.text:
        return math.nan
    at = _first_at(view.text, view.row.expected_answer)
    return 0.0 if at is None else 1 - at / len(view.text)


@measure
def lexical_diversity(view: View) -> float:
    """Mean over all windows of 100 words of different words / 100; of a shorter text, of all of it [share].

    The moving-average type-token ratio (Covington and McFall 2010).
    """
    words = view.numbers
    if len(words) <= WINDOW:
        return _share(len(np.unique(words)), len(words))
    order = np.argsort(words, kind="stable")
    last = np.full(len(words), -WINDOW)  # where the same word stood before
    same = words[order[1:]] == words[order[:-1]]
    last[order[1:][same]] = order[:-1][same]
    place = np.arange(len(words))
    first, end = (
        np.maximum(0, np.maximum(last + 1, place - WINDOW + 1)),
        np.minimum(place, len(words) - WINDOW),
    )
    return float(np.maximum(0, end - first + 1).sum() / (WINDOW * (len(words) - WINDOW + 1)))


@measure
def ended(view: View) -> float:
    """1 if the trace ended by itself, 0 if it was cut; the mean is the share of traces [share]. 2602.11149."""
    return math.nan if view.row.finish_reason is None else float(view.row.finish_reason == "stop")


def _different(view: View, size: int) -> int:
    """How many different spans of ``size`` > 0 words there are, compared by a 64-bit hash (two that differ
    are taken for the same with a chance of 10^-12 in a long trace).
    """
    sums, weights = view.span_hashes
    count = len(view.numbers) - size + 1
    # A span's sum bears the weight of its start; this brings all of them to the same weight.
    spans = np.sort((sums[size:] - sums[:-size]) * weights[::-1][:count])
    return 1 + int(np.count_nonzero(spans[1:] != spans[:-1]))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """splitmix64 of each, uint64."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _first_at(text: str, value: str | None) -> int | None:
    """Where ``value`` first stands in ``text`` as a word of its own; None if nowhere."""
    value = (value or "").strip()
    if not value:
        return None
    before = r"(?<![\w.])" if value[0].isalnum() else ""
    after = r"(?!\w|\.\d)" if value[-1].isalnum() else ""
    found = re.search(before + re.escape(value) + after, text)
    return found.start() if found else None
