"""contamination: drop or show traces of problems that are evaluation problems too, or nearly so."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from nemo_cot.errors import UserError
from nemo_cot.records import Problem, Trace
from nemo_cot.traces.filters import Context, Drops

KINDS = ("exact", "ngram", "fuzzy")
_WORD = re.compile(r"[^\W_]+|[+\-*/=<>^]")


@dataclass(frozen=True)
class Filter:
    """A problem is compared with every held-out one by its words, without case, punctuation and LaTeX's
    markup: exact, the same words; ngram, ``ngram`` words in a row in common (of a shorter one all of it, from
    5 words on); fuzzy, a similarity of at least ``fuzzy`` of 100 (rapidfuzz's ratio over words: 200 x words
    in common, in order, by words of both). ``drop`` lists the kinds that are dropped; the others are only
    shown. ``generations``: look for n-grams of the held-out problems in the traces' own texts, too. Whatever
    is found goes into flagged.jsonl, with both texts.
    """

    needs_heldout: ClassVar[bool] = True
    packages: ClassVar[dict[str, str]] = {"rapidfuzz": "'rapidfuzz>=3.9,<4'"}

    ngram: int = 13
    fuzzy: float = 85.0
    drop: list[str] = field(default_factory=lambda: ["exact", "ngram"])
    generations: bool = False

    def __post_init__(self) -> None:
        if self.ngram < 2:
            raise ValueError(f"ngram is {self.ngram}; it must be 2 or more")
        if not 0 < self.fuzzy <= 100:
            raise ValueError(f"fuzzy is {self.fuzzy}; it must lie between 0 and 100")
        if unknown := [kind for kind in self.drop if kind not in KINDS]:
            raise ValueError(f"drop holds {unknown[0]!r}; it may hold {', '.join(KINDS)}")

    def bind(self, context: Context) -> Drops:
        """Counted as contamination_KIND. Raises UserError without rapidfuzz."""
        index = _Index(context.heldout, self.ngram, self.fuzzy)

        def drops(trace: Trace, length: int) -> bool | str:
            found = index.of_problem(trace.problem)
            where = "problem"
            if found is None and self.generations:
                found, where = index.of_text(trace.generation), "generation"
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
    """The held-out problems by their words and n-grams."""

    def __init__(self, heldout: Sequence[Problem], ngram: int, fuzzy: float) -> None:
        try:
            from rapidfuzz import fuzz, process
            from rapidfuzz.distance import Indel
        except ImportError:
            raise UserError(
                "rapidfuzz is not installed",
                where="curate.filters.contamination",
                fix=f"pip install {Filter.packages['rapidfuzz']}",
            ) from None
        self._process, self._ratio, self._indel = process, fuzz.ratio, Indel.normalized_similarity
        self._heldout, self._size, self._cutoff = list(heldout), ngram, fuzzy
        self._words = [folded(problem.problem) for problem in self._heldout]
        self._exact = {words: number for number, words in reversed(list(enumerate(self._words)))}
        self._grams: dict[tuple[str, ...], int] = {}
        for number, words in enumerate(self._words):
            if len(words) >= 5:
                for gram in _ngrams(words, min(ngram, len(words))):
                    self._grams.setdefault(gram, number)
        self._sizes = sorted({len(gram) for gram in self._grams})
        self.of_problem = functools.lru_cache(maxsize=65536)(self._of_problem)

    def _of_problem(self, text: str) -> tuple[str, float, Problem] | None:
        """The kind, the similarity and the held-out problem of the closest match; None without one."""
        words = folded(text)
        if (number := self._exact.get(words)) is not None and words:
            return "exact", 100.0, self._heldout[number]
        if (found := self._by_ngram(words)) is not None:
            return "ngram", 100 * self._indel(words, self._words[found]), self._heldout[found]
        best = self._process.extractOne(
            words, self._words, scorer=self._ratio, processor=None, score_cutoff=self._cutoff
        )
        return ("fuzzy", float(best[1]), self._heldout[best[2]]) if best and words else None

    def of_text(self, text: str) -> tuple[str, float, Problem] | None:
        """The held-out problem of which an n-gram stands in ``text``; None without one."""
        found = self._by_ngram(folded(text))
        return None if found is None else ("ngram", 100.0, self._heldout[found])

    def _by_ngram(self, words: tuple[str, ...]) -> int | None:
        sizes = (size for size in self._sizes if size <= len(words))
        grams = (gram for size in sizes for gram in _ngrams(words, size))
        return next((self._grams[gram] for gram in grams if gram in self._grams), None)


def _ngrams(words: tuple[str, ...], size: int) -> list[tuple[str, ...]]:
    return [words[at : at + size] for at in range(len(words) - size + 1)]
