"""Grade one pair, or many: each distinct pair once, from the cache where it is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nemo_cot.grading.answers.rules import grade_by_rules
from nemo_cot.grading.cache import VerdictCache
from nemo_cot.grading.scorers import MATH, check_installed, judge, scorer_class, scorer_version
from nemo_cot.grading.verdict import RIGHT, UNDECIDED, WRONG, Verdict
from nemo_cot.grading.worker import NEMO_SKILLS
from nemo_cot.grading.workers import grade_in_workers

DEADLINE_SECONDS = 2.0
"""Deadline of :func:`grade`, for the few answers that need math-verify."""

_IN_PROCESS = 2000
"""Up to so many distinct pairs the typed rules (bounded, under a millisecond) run in this process."""

_CACHE_EVERY = 256

Pair = tuple[str, str | None]
"""What is asked (a scorers.question: of mathematics the expected answer), and an answer."""
Progress = Callable[[int, int], None]


def grade(gold: str, prediction: str | None, *, scorer: str = MATH) -> Verdict:
    """Verdict on one prediction; ``gold`` and ``scorer`` as in :func:`grade_many`, which is for more than a few.

    The typed rules run here; what they leave to math-verify runs in a worker with a deadline of
    2 s, to which the first call adds the start of that process (the import of SymPy). Never raises for any text; raises UserError if the worker process cannot start.
    """
    return grade_many([(gold, prediction)], workers=1, deadline_seconds=DEADLINE_SECONDS, scorer=scorer)[0]


def grade_many(
    pairs: Sequence[Pair],
    *,
    workers: int,
    deadline_seconds: float,
    cache: Path | None = None,
    progress: Progress | None = None,
    scorer: str = MATH,
) -> list[Verdict]:
    """Verdicts of ``pairs`` by one scorer, in their order; each distinct pair is graded once.

    ``workers`` processes share the work; an answer that takes longer than ``deadline_seconds``
    is undecided. ``cache`` is a directory for verdicts of this grader version. ``progress`` is
    called with the number of distinct pairs done and their total. Works from any thread.
    """
    check_installed(scorer)
    batch = _Batch(pairs, VerdictCache(cache, scorer_version(scorer)) if cache else None, progress)
    todo = batch.unknown()
    if not scorer_class(scorer).in_workers:
        for pair in todo:
            batch.store(pair, judge(scorer, *pair))
        todo = []
    elif scorer == MATH and len(todo) <= _IN_PROCESS:
        todo = batch.grade_here(todo)
    grade_in_workers(
        todo, rule=scorer, workers=workers, deadline_seconds=deadline_seconds,
        on_verdict=lambda index, verdict: batch.store(todo[index], verdict),
    )  # fmt: skip
    batch.flush()
    return [batch.verdicts[pair] for pair in pairs]


def nemo_skills_verdicts(
    pairs: Sequence[Pair],
    *,
    workers: int,
    deadline_seconds: float,
    progress: Progress | None = None,
) -> list[bool | None]:
    """NeMo-Skills' symbolic_correct for ``pairs``, in their order, by its own rule over math-verify.

    None where the rule did not come to an end (deadline, memory, an exception in it); NeMo-Skills
    would have said False there after its own 10 s, or never come back. No answer is False.
    """
    batch = _Batch(pairs, None, progress)
    todo = []
    for pair in batch.unknown():
        if pair[1] is None:
            batch.store(pair, Verdict(WRONG, "no-answer"))
        else:
            todo.append(pair)
    grade_in_workers(
        todo, rule=NEMO_SKILLS, workers=workers, deadline_seconds=deadline_seconds,
        on_verdict=lambda index, verdict: batch.store(todo[index], verdict),
    )  # fmt: skip
    meaning = {RIGHT: True, WRONG: False, UNDECIDED: None}
    return [meaning[batch.verdicts[pair].outcome] for pair in pairs]


class _Batch:
    """Verdicts of the distinct pairs of one call, as they come in."""

    def __init__(self, pairs: Sequence[Pair], cache: VerdictCache | None, progress: Progress | None) -> None:
        self.distinct = list(dict.fromkeys(pairs))
        self.verdicts: dict[Pair, Verdict] = {}
        self._cache, self._progress = cache, progress
        self._new: list[tuple[str, str, Verdict]] = []

    def unknown(self) -> list[Pair]:
        """The pairs that the cache does not know; the others are stored."""
        todo = []
        for pair in self.distinct:
            known = self._cache.get(*pair) if self._cache and pair[1] is not None else None
            if known is None:
                todo.append(pair)
            else:
                self._set(pair, known)
        return todo

    def grade_here(self, todo: list[Pair]) -> list[Pair]:
        """Apply the typed rules in this process; returns what is left for math-verify."""
        left = []
        for pair in todo:
            verdict, open_for_sympy = grade_by_rules(*pair)
            if open_for_sympy:
                left.append(pair)
            else:
                self.store(pair, verdict)
        return left

    def store(self, pair: Pair, verdict: Verdict) -> None:
        """Keep a new verdict, in the cache too."""
        self._set(pair, verdict)
        if self._cache and pair[1] is not None:
            self._new.append((pair[0], pair[1], verdict))
            if len(self._new) >= _CACHE_EVERY:
                self.flush()

    def flush(self) -> None:
        """Write new verdicts to the cache."""
        if self._cache:
            self._cache.add(self._new)
        self._new = []

    def _set(self, pair: Pair, verdict: Verdict) -> None:
        self.verdicts[pair] = verdict
        if self._progress:
            self._progress(len(self.verdicts), len(self.distinct))
