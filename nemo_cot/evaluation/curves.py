"""pass@k and maj@k over k: what more samples per problem would gain, estimated from the existing samples; and pass@1
and maj@all over a budget of tokens: what shorter answers would give.

pass@k is the unbiased estimator at every k. maj@k at k below the number of samples is the mean over
SUBSETS subsets of k samples per problem, drawn without replacement; ties count as in majority_at_k.
A subset of size k is the first k of a shuffled order of all samples; the orders come from a seed and
are the same for every problem with as many samples, every vote and every run, so that curves can be
compared. At k = 1 and at all samples nothing is drawn: the mean over all subsets is exact there. (majority_at_k takes the first k samples in the order of their seeds, as NeMo-Skills.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nemo_cot.evaluation.metrics import Metric, majority_at_k, pass_at_1, pass_at_k, undecided_share
from nemo_cot.evaluation.outcomes import WRONG, Outcomes
from nemo_cot.evaluation.votes import (
    Ballots,
    ballots,
    mean_majority_scores,
    single_scores,
    whole_scores,
)

SUBSETS = 200
"""Subsets per problem and k: the standard error of a problem's maj@k is at most 0.035."""


def curve_sizes(samples: int) -> list[int]:
    """1, 2, 4, ... below ``samples``, then ``samples``. Raises ValueError below 1."""
    if samples < 1:
        raise ValueError(f"samples is {samples}; it must be at least 1")
    powers = [2**power for power in range(samples.bit_length())]
    return powers if powers[-1] == samples else [*powers, samples]


def pass_curve(outcomes: Outcomes) -> dict[int, Metric]:
    """pass@k by k, up to the smallest number of samples per problem; undecided counts as wrong."""
    sizes = curve_sizes(int(outcomes.sample_counts.min()))
    return {size: pass_at_k(outcomes, size) for size in sizes}


def majority_curve(outcomes: Outcomes, *, vote: str = "string", seed: int = 0) -> dict[int, Metric]:
    """Expected maj@k by k, up to the smallest number of samples per problem; see the module's docstring.

    ``vote`` as in majority_at_k; undecided counts as wrong. The same seed gives the same curve.
    """
    if vote not in ("string", "equivalence"):
        raise ValueError(f"vote is {vote!r}; it must be string or equivalence")
    counts = outcomes.sample_counts
    sizes = curve_sizes(int(counts.min()))
    equivalence = vote == "equivalence"
    cast = ballots(
        outcomes.verdicts, outcomes.answers, equivalence=equivalence, undecided="wrong", scorers=outcomes.scorers
    )
    values = np.empty((len(sizes), len(counts)))
    for samples in np.unique(counts):
        chosen = np.flatnonzero(counts == samples)
        values[:, chosen] = _expected(cast.of(chosen, samples), sizes, seed)
    unsure = undecided_share(outcomes.verdicts)
    return {
        size: Metric(f"maj@{size}[{vote}]", row, outcomes.problem_ids, unsure)
        for size, row in zip(sizes, values)
    }


def within(outcomes: Outcomes, tokens: Sequence[np.ndarray], budget: int) -> Outcomes:
    """The outcomes if an answer of more tokens than ``budget`` were cut: it is wrong and has no vote.

    ``tokens``: int arrays, those of each problem's samples. It bounds a run with that limit from below: a cut text may
    hold an answer already.
    """
    verdicts, answers = outcomes.verdicts.copy(), []
    for row, counts, given in zip(verdicts, tokens, outcomes.answers):
        row[: len(counts)][counts > budget] = WRONG
        answers.append(tuple(a if n <= budget else None for a, n in zip(given, counts)))
    return replace(outcomes, verdicts=verdicts, answers=tuple(answers))


def budget_curves(by_budget: Mapping[int, Outcomes]) -> tuple[dict[int, Metric], dict[int, Metric]]:
    """pass@1 and maj@all (by text) by budget of tokens. Undecided counts as wrong."""
    passed = {budget: pass_at_1(outcomes) for budget, outcomes in by_budget.items()}
    return passed, {budget: majority_at_k(outcomes, None) for budget, outcomes in by_budget.items()}


def _expected(cast: Ballots, sizes: Sequence[int], seed: int) -> np.ndarray:
    """Majority score over subsets of each size, float array [sizes, P]."""
    samples = cast.votes.shape[1]
    known = {1: single_scores(cast), samples: whole_scores(cast)}
    between = [size for size in sizes if size not in known]
    order = np.tile(np.arange(samples), (SUBSETS, 1))
    shuffled = np.random.default_rng(seed).permuted(order, axis=1)
    known |= mean_majority_scores(cast, shuffled, between)
    return np.stack([known[size] for size in sizes])
