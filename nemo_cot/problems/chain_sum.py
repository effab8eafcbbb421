"""problems=chain_sum: sums from reasoning-gym, graded as mathematics."""

from __future__ import annotations

from nemo_cot.config import ChainSumProblems
from nemo_cot.errors import UserError
from nemo_cot.problems.problem_set import ProblemSet
from nemo_cot.problems.reasoning_gym import drawn
from nemo_cot.records import Problem


def make(config: ChainSumProblems) -> ProblemSet:
    """Draw from reasoning-gym until enough different problems are found."""
    wanted = config.num_train + config.num_heldout
    options = {
        "min_terms": config.terms, "max_terms": config.terms, "min_digits": config.digits, "max_digits": config.digits,
    }  # fmt: skip
    found = drawn("chain_sum", options, config.seed, wanted, where="problems=chain_sum")
    problems = [
        Problem(problem_id=f"chain_sum-{number}", problem=entry["question"], expected_answer=entry["answer"])
        for number, entry in enumerate(found)
    ]
    if len(problems) < wanted:
        raise UserError(
            f"only {len(problems)} different problems of {wanted} with {config.terms} terms of {config.digits} digits",
            where="problems",
            fix="ask for fewer, or raise problems.terms or problems.digits",
        )
    return ProblemSet(problems[: config.num_train], problems[config.num_train :])
