"""Problems and answers of the contract tests, and what a collated batch trains on."""

from __future__ import annotations

import itertools

END_OF_TURN, END_OF_TEXT = "<|im_end|>", "<|endoftext|>"
PROMPT = "<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n"
PROBLEMS = [
    (f"What is {n} and {n + 1}?", f"It is {n} + {n + 1}, so {2 * n + 1}." + " Check." * n) for n in range(8)
]


def trained_texts(batch: dict, tokenizer) -> list[str]:
    """The text that each sequence of a collated batch of one pack is trained to produce."""
    ends = batch["cu_seqlens"][0].tolist()
    ends = ends[: ends.index(-1)]
    labels, mask = batch["labels"][0], batch["loss_mask"][0]
    spans = [slice(start, end) for start, end in itertools.pairwise(ends)]
    kept = [labels[span][mask[span] > 0].tolist() for span in spans]
    return [tokenizer.tokenizer.decode(ids) for ids in kept if ids]
