"""contamination: drop or show traces of problems that are evaluation problems too, or nearly so."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from nemo_cot.errors import UserError
from nemo_cot.records import Problem, Trace
from nemo_cot.traces.filters import Context, Drops

_WORD = re.compile(r"[^\W_]+|[+\-*/=<>^]")
_SHORTEST = 5
"""Words of a held-out problem, below which only the same problem counts."""
_TEMPLATE = 10
"""Held-out problems in which a row of words may stand."""


@dataclass(frozen=True)
class Filter:
    """A problem is compared with every held-out one, without case, punctuation and LaTeX's markup:

    exact  the same words, numbers and operators.
    ngram  ``ngram`` words in a row in common, with the same operators between them, and more than ``share`` of the
           held-out problem's words within such rows. A problem that is shorter counts as one row, from 5 words on.
           13 words: GPT-3 (arXiv 2005.14165, appendix C), which passes over rows of more than 10 documents, as
           templates have them; so does this, over rows of more than 10 held-out problems. The share: Tulu 3 (arXiv
           2411.15124), against openings such as "Let ABC be a triangle with AB = 13, BC = 14 and CA = 15".
    fuzzy  a similarity of at least ``fuzzy`` of 100: rapidfuzz's ratio, 200 x words in common, in order, by words of
           both.

    ``drop`` lists the kinds that are dropped; the others are only shown. ``generations``: look for such rows in the
    traces' own texts, too. Whatever is found goes into flagged.jsonl, with both texts.
    """

    needs_heldout: ClassVar[bool] = True
    packages: ClassVar[dict[str, str]] = {"rapidfuzz": "'rapidfuzz>=3.9,<4'"}

    ngram: int = 13
    share: float = 0.5
    fuzzy: float = 85.0
    drop: list[Literal["exact", "ngram", "fuzzy"]] = field(default_factory=lambda: ["exact", "ngram"])
    generations: bool = False

    def __post_init__(self) -> None:
        if self.ngram < 2:
            raise ValueError(f"ngram is {self.ngram}; it must be 2 or more")
        if not 0 <= self.share < 1:
            raise ValueError(f"share is {self.share}; it must be 0 or more, and below 1")
        if not 0 < self.fuzzy <= 100:
            raise ValueError(f"fuzzy is {self.fuzzy}; it must lie between 0 and 100")

    def bind(self, context: Context) -> Drops:
        """Counted as contamination_KIND. Raises UserError without rapidfuzz."""
        index = _Index(context.heldout, self)

        def drops(trace: Trace, length: int) -> bool | str:
            found = index.of_problem(trace.problem)
            where = "problem"
            if found is None and self.generations:
                found, where = index.by_rows(folded(trace.generation)), "generation"
            if found is None:
                return False
            kind, score, problem = found
            own = trace.problem if where == "problem" else trace.generation
            row = {
                "filter": "contamination",
                "kind": kind,
                "similarity": round(score, 1),
                "dropped": kind in self.drop,
                "problem_id": trace.problem_id,
                "where": where,
                "text": own,
                "heldout_id": problem.problem_id,
                "heldout_text": problem.problem,
            }
            context.show(f"contamination {trace.problem_id} {where} {problem.problem_id}", row)
            return f"contamination_{kind}" if kind in self.drop else False

        return drops


def folded(text: str) -> tuple[str, ...]:
    """The words, numbers and operators of ``text`` in lower case. LaTeX's commands for spacing and size are
    left out, and the backslash of the others.
    """
    plain = re.sub(r"\\(?:left|right|[,;:! ]|quad|qquad|displaystyle|d?frac(?=\W)|text|mathrm)|\$", " ", text)
    return tuple(_WORD.findall(plain.lower()))


class _Index:
    """The held-out problems by their words and rows of words."""

    def __init__(self, heldout: Sequence[Problem], rule: Filter) -> None:
        try:
            from rapidfuzz import fuzz, process
        except ImportError:
            raise UserError(
                "rapidfuzz is not installed",
                where="curate.filters.contamination",
                fix=f"pip install {Filter.packages['rapidfuzz']}",
            ) from None
        self._process, self._ratio = process, fuzz.ratio
        self._heldout, self._rule = list(heldout), rule
        self._texts = [folded(problem.problem) for problem in self._heldout]
        self._exact = {text: number for number, text in reversed(list(enumerate(self._texts)))}
        self._counts = [sum(map(_is_word, text)) for text in self._texts]
        self._rows: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        """By a row: in which problems it stands, and from which of their words on."""
        for number, (text, count) in enumerate(zip(self._texts, self._counts)):
            if count >= _SHORTEST:
                for at, row in enumerate(_rows_of(text, min(rule.ngram, count))):
                    self._rows[row].append((number, at))
        self._rows = {row: places for row, places in self._rows.items() if len(dict(places)) <= _TEMPLATE}
        self._sizes = sorted({sum(map(_is_word, row)) for row in self._rows})
        self.of_problem = functools.lru_cache(maxsize=65536)(self._of_problem)

    def _of_problem(self, text: str) -> tuple[str, float, Problem] | None:
        """The kind, the similarity (for rows, the share in percent) and the held-out problem of the closest match; None
        without one.
        """
        words = folded(text)
        if (number := self._exact.get(words)) is not None and words:
            return "exact", 100.0, self._heldout[number]
        if (found := self.by_rows(words)) is not None:
            return found
        best = self._process.extractOne(
            words, self._texts, scorer=self._ratio, processor=None, score_cutoff=self._rule.fuzzy
        )
        return ("fuzzy", float(best[1]), self._heldout[best[2]]) if best and words else None

    def by_rows(self, text: tuple[str, ...]) -> tuple[str, float, Problem] | None:
        """The held-out problem that stands in ``text`` by its rows of words; None without one."""
        covered: dict[int, set[int]] = defaultdict(set)
        for size in self._sizes:
            for row in _rows_of(text, size):
                for number, at in self._rows.get(row, ()):
                    covered[number].update(range(at, at + size))
        shares = {number: len(words) / self._counts[number] for number, words in covered.items()}
        best = max(shares, key=lambda number: (shares[number], -number), default=None)
        if best is None or shares[best] <= self._rule.share:
            return None
        return "ngram", 100 * shares[best], self._heldout[best]


def _is_word(token: str) -> bool:
    return token[0].isalnum()


def _rows_of(text: tuple[str, ...], size: int) -> Iterator[tuple[str, ...]]:
    """Each ``size`` words in a row, with the operators between them."""
    places = [place for place, token in enumerate(text) if _is_word(token)]
    return (text[first : last + 1] for first, last in zip(places, places[size - 1 :]))
