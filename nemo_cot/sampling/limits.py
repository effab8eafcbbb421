"""Limits of a server that are narrower than the one asked for: found before the first sample, or by its answers."""

from __future__ import annotations

from nemo_cot.errors import UserError
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.text import TextTokenizer


def check_room(tokenizer: TextTokenizer, job: SamplingJob, context: int | None) -> None:
    """Raise UserError for a problem whose prompt and longest answer exceed ``context``, the server's tokens for both:
    vLLM would end the answer there without an error. None: it is not known.
    """
    new = job.sampling.max_new_tokens
    for problem in job.problems if context is not None else ():
        if (length := len(tokenizer.prompt_ids(problem.problem))) + new > context:
            raise UserError(
                f"a prompt of {length} tokens and {new} new ones exceed the server's context, max_model_len {context}",
                where=f"problem {problem.problem_id}",
                fix="raise engine.server.max_model_len, or lower sampling.max_new_tokens",
            )


def cut_early(tokens: int, limit: int, *, prompt: int | None, context: int | None) -> tuple[str, str] | None:
    """What ended an answer of ``tokens`` with finish_reason length, and the fix; None where it is the ``limit`` that
    was asked for. ``prompt``: the tokens of its prompt; ``context``: as :func:`check_room`; None: not known.
    """
    if tokens >= limit:
        return None
    cut = f"the answer was cut (finish_reason length) after {tokens} tokens, of {limit} that were asked for"
    if prompt is not None and context is not None and prompt + tokens >= context - 1:
        return (
            f"{cut}: with its prompt of {prompt} it fills the server's context, max_model_len {context}",
            "raise engine.server.max_model_len, or lower sampling.max_new_tokens",
        )
    room = f" of {prompt + tokens}" if prompt is not None else ""
    of = f", or a context{room} for prompt and answer" if prompt is None or context is None else ""
    return (
        f"{cut}: the server seems to have a limit of its own, of {tokens} new tokens{of}",
        "start it with --generation-config vllm (max_new_tokens in the model's generation_config.json) and a context "
        "for prompt and answer, or lower sampling.max_new_tokens",
    )
