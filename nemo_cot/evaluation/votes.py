"""Majority votes: which answer the samples of a problem agree on, and whether it is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from nemo_cot.evaluation.outcomes import ABSENT, RIGHT, UNDECIDED
from nemo_cot.grading.canonical import canonical_key


def majority_scores(
    verdicts: np.ndarray, answers: Sequence[Sequence[str | None]], *, equivalence: bool, undecided: str
) -> np.ndarray:
    """Score of the most frequent answer for each problem, float array [P]; see metrics.majority_at_k.

    ``verdicts`` [P, k] holds the codes of outcomes; ``answers`` may hold more than k a problem.
    """
    scores = np.zeros(len(verdicts))
    for index, (codes, texts) in enumerate(zip(verdicts.tolist(), answers)):
        cast = [(c, t) for c, t in zip(codes, texts) if c != ABSENT]
        scores[index] = _score(cast, equivalence, undecided)
    return scores


def _score(cast: list[tuple[int, str | None]], equivalence: bool, undecided: str) -> float:
    """Mean correctness of the tied most frequent votes; 0 without a vote; NaN if all are undecided."""
    if undecided == "exclude":
        decided = [(code, text) for code, text in cast if code != UNDECIDED]
        if cast and not decided:
            return float("nan")
        cast = decided
    votes: Counter[tuple[Hashable, float]] = Counter()
    for code, text in cast:
        if text is None or (equivalence and not text.strip()):
            continue
        score = float(code == RIGHT or (code == UNDECIDED and undecided == "right"))
        votes[_ballot(code, text) if equivalence else text, score] += 1
    if not votes:
        return 0.0
    most = max(votes.values())
    tied = [score for (_, score), count in votes.items() if count == most]
    return sum(tied) / len(tied)


def _ballot(code: int, text: str) -> Hashable:
    """All right answers equal the gold, so they are one; others join by their canonical form."""
    return "right" if code == RIGHT else canonical_key(text)
