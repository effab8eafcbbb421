"""pass@1, pass@k, maj@k over graded samples, with undecided samples counted separately.

Every metric takes a policy for undecided samples:

- "wrong": they count as wrong. The lower bound, and what NeMo-Skills' figures correspond to.
- "right": they count as right. The upper bound.
- "exclude": they are left out, as if not sampled; a problem with no other sample is left out.

A metric always reports the share of undecided samples that it used, so none is silently wrong.
Definitions follow NeMo-Skills (nemo_skills/evaluation/metrics/base.py, commit 0b012df).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nemo_cot.errors import UserError
from nemo_cot.evaluation.outcomes import ABSENT, RIGHT, UNDECIDED, Outcomes
from nemo_cot.evaluation.votes import majority_scores

UNDECIDED_POLICIES = ("wrong", "right", "exclude")


@dataclass(frozen=True)
class Metric:
    """One figure. ``per_problem``: float array [P], NaN for a problem left out; shares lie between 0 and 1.

    ``problem_ids``: their ids. ``undecided`` is the share of undecided samples among those used. ``share``: False
    for a figure in other units (tokens), which has another kind of interval.
    """

    name: str
    per_problem: np.ndarray
    problem_ids: tuple[str, ...]
    undecided: float
    share: bool = True

    @property
    def value(self) -> float:
        """Mean over the problems that are not left out; NaN if all are."""
        kept = self.per_problem[~np.isnan(self.per_problem)]
        return float(kept.mean()) if len(kept) else float("nan")

    def restricted(self, places: np.ndarray) -> Metric:
        """The same figure over a subset of the problems, by their indices ``places``, in any order.

        ``undecided`` stays that of all problems.
        """
        names = tuple(self.problem_ids[place] for place in places)
        return replace(self, per_problem=self.per_problem[places], problem_ids=names)


def pass_at_1(outcomes: Outcomes, *, k: int | None = None, undecided: str = "wrong") -> Metric:
    """Mean over problems of (right among the first k samples) / k: NeMo-Skills' pass@1[avg-of-k].

    ``k=None`` takes all samples of each problem, even if their numbers differ. A missing answer is
    wrong. ``undecided`` as in the module's docstring. Raises UserError if a problem has fewer
    than k samples.
    """
    verdicts = _first(outcomes, k)
    right, total = _counts(verdicts, undecided)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_problem = np.where(total > 0, right / total, np.nan)
    name = "pass@1" if k is None else f"pass@1[avg-of-{k}]"
    return Metric(name, per_problem, outcomes.problem_ids, undecided_share(verdicts))


def pass_at_k(outcomes: Outcomes, k: int, *, undecided: str = "wrong") -> Metric:
    """Unbiased estimator of the chance that one of k samples is right: 1 - C(n-r, k) / C(n, k).

    n samples of which r are right, per problem (Chen et al. 2021, arXiv 2107.03374). A missing answer
    is wrong. With ``undecided="exclude"`` n counts decided samples, and a problem with fewer
    than k of them is left out. Raises UserError if a problem has fewer than k samples.
    """
    verdicts = _first(outcomes, None, at_least=k)
    right, total = _counts(verdicts, undecided)
    steps = np.arange(k)
    remaining = np.maximum(total[:, None] - steps, 1)
    missed = np.clip((total - right)[:, None] - steps, 0, None) / remaining
    per_problem = np.where(total >= k, 1.0 - missed.prod(axis=1), np.nan)
    return Metric(f"pass@{k}", per_problem, outcomes.problem_ids, undecided_share(verdicts))


def majority_at_k(
    outcomes: Outcomes, k: int | None = None, *, vote: str = "string", undecided: str = "wrong"
) -> Metric:
    """Correctness of the most frequent answer among the first k samples of each problem.

    ``vote="string"``: NeMo-Skills' rule. Votes are (answer string, verdict) pairs, so equivalent
    spellings do not join; None does not vote, the empty string does; a tie gives the mean of the
    tied entries; all None gives 0. ``vote="equivalence"``: answers that are equal (mathematically, or by the normal form of
    the problem's scorer) vote together, all right answers do, and the empty string does not vote.
    ``undecided`` as in the module's docstring; "exclude" removes the vote, and leaves out a problem
    whose samples are all undecided. Raises UserError if a problem has fewer than k
    samples.
    """
    if vote not in ("string", "equivalence"):
        raise ValueError(f"vote is {vote!r}; it must be string or equivalence")
    verdicts = _first(outcomes, k)
    _check_policy(undecided)
    scores = majority_scores(
        verdicts, outcomes.answers, equivalence=vote == "equivalence", undecided=undecided, scorers=outcomes.scorers
    )
    name = f"maj@{'all' if k is None else k}" + ("" if vote == "string" else "[equivalence]")
    return Metric(name, scores, outcomes.problem_ids, undecided_share(verdicts))


def _first(outcomes: Outcomes, k: int | None, *, at_least: int = 1) -> np.ndarray:
    """Verdicts of the first k samples per problem, [P, k]; all samples if k is None."""
    needed = at_least if k is None else k
    if needed < 1:
        raise ValueError(f"k is {needed}; it must be at least 1")
    short = [outcomes.problem_ids[i] for i in np.flatnonzero(outcomes.sample_counts < needed)]
    if short:
        raise UserError(
            f"{len(short)} problems have fewer than {needed} samples, {short[0]!r} first",
            where=f"metric at k={needed}", fix="take a smaller k, or generate the missing samples",
        )  # fmt: skip
    return outcomes.verdicts if k is None else outcomes.verdicts[:, :k]


def _check_policy(undecided: str) -> None:
    if undecided not in UNDECIDED_POLICIES:
        raise ValueError(f"undecided is {undecided!r}; it must be one of {', '.join(UNDECIDED_POLICIES)}")


def _counts(verdicts: np.ndarray, undecided: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of right samples and of samples that count, int arrays [P], under the policy for undecided ones."""
    _check_policy(undecided)
    unsure = (verdicts == UNDECIDED).sum(axis=1)
    right = (verdicts == RIGHT).sum(axis=1)
    total = (verdicts != ABSENT).sum(axis=1)
    if undecided == "right":
        right = right + unsure
    elif undecided == "exclude":
        total = total - unsure
    return right, total


def undecided_share(verdicts: np.ndarray) -> float:
    """Share of undecided samples, between 0 and 1; ``verdicts`` as in Outcomes."""
    return float((verdicts == UNDECIDED).sum() / max(1, (verdicts != ABSENT).sum()))
