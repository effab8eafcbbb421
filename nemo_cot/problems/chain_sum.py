"""problems=chain_sum: sums from reasoning-gym."""

from __future__ import annotations

import warnings

from nemo_cot.config import ChainSumProblems
from nemo_cot.errors import UserError
from nemo_cot.problems.problem_set import ProblemSet
from nemo_cot.records import Problem


def make(config: ChainSumProblems) -> ProblemSet:
    """Draw from reasoning-gym until enough different problems are found."""
    wanted = config.num_train + config.num_heldout
    seen: dict[str, Problem] = {}
    for entry in _entries(config, size=20 * wanted):
        text = entry["question"]
        if text not in seen:
            seen[text] = Problem(
                problem_id=f"chain_sum-{len(seen)}", problem=text, expected_answer=str(entry["answer"])
            )
        if len(seen) == wanted:
            drawn = list(seen.values())
            return ProblemSet(drawn[: config.num_train], drawn[config.num_train :])
    raise UserError(
        f"only {len(seen)} different problems of {wanted} with {config.terms} terms of {config.digits} digits",
        where="problems",
        fix="ask for fewer, or raise problems.terms or problems.digits",
    )


def _entries(config: ChainSumProblems, size: int):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of packages that it imports
            import reasoning_gym
    except ImportError:
        raise UserError(
            "the package reasoning-gym is not installed",
            where="problems=chain_sum",
            fix="pip install -e '.[local]' in the clone, or problems=file",
        ) from None
    return reasoning_gym.create_dataset(
        "chain_sum", min_terms=config.terms, max_terms=config.terms, min_digits=config.digits,
        max_digits=config.digits, size=size, seed=config.seed,
    )  # fmt: skip
