"""Majority votes: which answer the samples of a problem agree on, and whether it is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from nemo_cot.evaluation.outcomes import ABSENT, RIGHT, UNDECIDED
from nemo_cot.grading.scorers import scorer_class

_CELLS = 2_000_000
"""Counters, and votes, processed at a time over subsets: 4 MB of int16 each, 16 MB of scores."""

_INTEGER = re.compile(r"[1-9][0-9]{0,14}")
"""Most answers: each is its own normal form, so none need be computed."""


@dataclass(frozen=True)
class Ballots:
    """What each sample votes for. ``votes``: int16 [P, S], the index of a ballot of its problem, -1 if a
    sample does not vote. ``scores``: float [P, B], each ballot's correctness.
    """

    votes: np.ndarray
    scores: np.ndarray

    def of(self, places: np.ndarray, samples: int) -> Ballots:
        """The ballots of the first ``samples`` samples of the problems at ``places``."""
        return Ballots(self.votes[places, :samples], self.scores[places])


def majority_scores(
    verdicts: np.ndarray,
    answers: Sequence[Sequence[str | None]],
    *,
    equivalence: bool,
    undecided: str,
    scorers: Sequence[str | None] = (),
) -> np.ndarray:
    """Score of the most frequent answer for each problem, float array [P]; see metrics.majority_at_k.

    ``verdicts`` [P, k] holds the codes of outcomes; ``answers`` may hold more than k per problem.
    ``scorers`` as in Outcomes.
    """
    cast = ballots(verdicts, answers, equivalence=equivalence, undecided=undecided, scorers=scorers)
    scores = whole_scores(cast)
    if undecided == "exclude":
        unsure = np.isin(verdicts, (UNDECIDED, ABSENT)).all(axis=1) & (verdicts == UNDECIDED).any(axis=1)
        scores[unsure] = np.nan
    return scores


def ballots(
    verdicts: np.ndarray,
    answers: Sequence[Sequence[str | None]],
    *,
    equivalence: bool,
    undecided: str,
    scorers: Sequence[str | None] = (),
) -> Ballots:
    """The votes of ``verdicts`` [P, S] and ``answers`` by one of the two rules of metrics.majority_at_k."""
    votes = np.full(verdicts.shape, -1, dtype=np.int16)
    known: list[dict[tuple[Hashable, float], int]] = []
    for row, codes, texts, scorer in zip(votes, verdicts.tolist(), answers, scorers or [None] * len(votes)):
        key = scorer_class(scorer).ballot if equivalence else None
        seen: dict[tuple[Hashable, float], int] = {}
        for place, (code, text) in enumerate(zip(codes, texts)):
            if (ballot := _ballot(code, text, key, undecided)) is not None:
                row[place] = seen.setdefault(ballot, len(seen))
        known.append(seen)
    scores = np.zeros((len(votes), max([1, *map(len, known)])))
    for row, seen in zip(scores, known):
        row[: len(seen)] = [score for _, score in seen]
    return Ballots(votes, scores)


def single_scores(cast: Ballots) -> np.ndarray:
    """Majority score of one sample, mean over the samples of each problem, float array [P]."""
    scores = np.take_along_axis(cast.scores, np.maximum(cast.votes, 0), axis=1)
    return np.where(cast.votes >= 0, scores, 0.0).mean(axis=1)


def whole_scores(cast: Ballots) -> np.ndarray:
    """Majority score over all samples of each problem, float array [P]."""
    counts = np.zeros((len(cast.votes), cast.scores.shape[1] + 1), dtype=np.int16)
    _count(counts, cast.votes)
    return _elect(counts, cast.scores)


def mean_majority_scores(cast: Ballots, subsets: np.ndarray, sizes: Sequence[int]) -> dict[int, np.ndarray]:
    """Majority score at each of ``sizes`` (ascending), mean over subsets of the samples, float arrays [P].

    ``subsets``: int [D, S], each row a permutation of the samples; its first k are the subset of size k.
    """
    draws, width = len(subsets), cast.scores.shape[1]
    step = max(1, _CELLS // (draws * max(width, subsets.shape[1])))
    parts: dict[int, list[np.ndarray]] = {size: [] for size in sizes}
    for start in range(0, len(cast.votes), step):
        votes = cast.votes[start : start + step]
        drawn = votes[:, subsets].reshape(len(votes) * draws, -1)
        scores = np.repeat(cast.scores[start : start + step], draws, axis=0)
        counts, done = np.zeros((len(drawn), width + 1), dtype=np.int16), 0
        for size in sizes:
            _count(counts, drawn[:, done:size])
            parts[size].append(_elect(counts, scores).reshape(-1, draws).mean(axis=1))
            done = size
    return {size: np.concatenate(found) for size, found in parts.items()}


def _ballot(
    code: int, text: str | None, key: Callable[[str], Hashable] | None, undecided: str
) -> tuple[Hashable, float] | None:
    """What a sample votes for, with its correctness; None if it does not vote. ``key``: by equality; None: as text.

    All right answers equal the gold, so they are one ballot by equality; others join by their scorer's normal form.
    """
    excluded = code == ABSENT or (code == UNDECIDED and undecided == "exclude")
    if excluded or text is None or (key and not text.strip()):
        return None
    score = float(code == RIGHT or (code == UNDECIDED and undecided == "right"))
    if key is None:
        return text, score
    return ("right" if code == RIGHT else text if _INTEGER.fullmatch(text) else key(text)), score


def _count(counts: np.ndarray, votes: np.ndarray) -> None:
    """Add ``votes`` [N, k] to ``counts`` [N, B + 1], whose last column, -1, counts abstentions."""
    rows = np.arange(len(votes))
    for column in votes.T:
        counts[rows, column] += 1


def _elect(counts: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Mean correctness of the tied most frequent ballots, float [N]; 0 where nobody voted."""
    cast = counts[:, :-1]
    most = cast.max(axis=1, keepdims=True)
    tied = (cast == most) & (most > 0)
    return (tied * scores).sum(axis=1) / np.maximum(tied.sum(axis=1), 1)
