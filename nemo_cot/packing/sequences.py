"""Tokenised traces: what a pack is made of."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.records import Trace
from nemo_cot.text import TextTokenizer


class TokenSequence(msgspec.Struct, kw_only=True):
    """One trace as tokens: the prompt, the answer, the end-of-turn token last (if the trace is to teach it).

    Tokens from ``num_prompt_tokens`` on are trained on; the first of them is predicted from the
    last prompt token.
    """

    problem_id: str
    sample: int
    input_ids: list[int]
    num_prompt_tokens: int

    @property
    def num_trained_tokens(self) -> int:
        """Tokens that bear loss."""
        return len(self.input_ids) - self.num_prompt_tokens


def tokenize_traces(
    traces: Sequence[Trace], tokenizer: TextTokenizer, *, capacity_tokens: int
) -> list[TokenSequence]:
    """One sequence a trace, in order.

    Raises UserError for a trace that is longer than the pack (nothing is truncated), and for a
    tokenizer whose eos occurs inside a sequence, where NeMo's loaders would cut it.
    """
    sequences = [_tokenize(trace, tokenizer) for trace in traces]
    for sequence in sequences:
        _check_length(sequence, capacity_tokens)
        _check_eos(sequence, tokenizer)
    return sequences


def _tokenize(trace: Trace, tokenizer: TextTokenizer) -> TokenSequence:
    prompt = tokenizer.prompt_ids(trace.problem)
    return TokenSequence(
        problem_id=trace.problem_id,
        sample=trace.sample,
        input_ids=[*prompt, *tokenizer.trained_ids(trace.generation, end_of_turn=trace.trains_end_of_turn)],
        num_prompt_tokens=len(prompt),
    )


def _check_length(sequence: TokenSequence, capacity_tokens: int) -> None:
    length = len(sequence.input_ids)
    if length > capacity_tokens:
        raise UserError(
            f"the trace has {length} tokens ({sequence.num_prompt_tokens} of the prompt), a pack holds {capacity_tokens}",
            where=f"trace {sequence.problem_id}, sample {sequence.sample}",
            fix=f"raise pack.capacity_tokens to {length} or more, or lower curate.max_tokens",
        )


def _check_eos(sequence: TokenSequence, tokenizer: TextTokenizer) -> None:
    eos = tokenizer.eos_id
    if eos is None or eos not in sequence.input_ids[:-1]:
        return
    position = sequence.input_ids.index(eos)
    raise UserError(
        f"the tokenizer's eos {tokenizer.decode([eos])!r} occurs inside the sequence, at token {position} of "
        f"{len(sequence.input_ids)}; NeMo's loaders would cut it there",
        where=f"trace {sequence.problem_id}, sample {sequence.sample}",
        fix="set model.eos_token to a token that the prompt does not hold (base Qwen2.5: <|endoftext|>)",
    )
