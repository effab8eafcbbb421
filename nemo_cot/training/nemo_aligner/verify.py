"""Read a packed file back and refuse what the trainer would train wrongly on, token by token."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nemo_cot.errors import UserError
from nemo_cot.training.nemo_aligner.packed_file import Layout, read_packed_file

_FIX = "run the pack stage again for this NeMo and tokenizer"


def verify_packed_file(path: Path, layout: Layout) -> None:
    """Check every sequence of ``path`` by the rules of ``layout``, whoever packed it.

    Raises UserError with pack, sequence and rule for: an eos inside a sequence; an end that is
    not the end-of-turn token, or is not trained; a trained first token or padding; counts that
    differ within a sequence; a pack that trains nothing, or is over the capacity; a sequence not padded as context parallelism needs. What it cannot see is an
    answer's first token left out, for nothing in the file says where the answer begins.
    """
    for number, pack in enumerate(read_packed_file(path)):
        where = f"{path}, pack {number}"
        inputs = len(pack.input_ids) - len(pack.seq_start_id)
        if inputs > layout.capacity_tokens:
            raise UserError(
                f"has {inputs} inputs, over the capacity {layout.capacity_tokens}",
                where=where,
                fix="set the capacity that the file was packed for, or pack again",
            )
        if not np.any(pack.loss_mask):
            # NeMo divides the loss of a pack by the sum of its mask.
            raise UserError("trains nothing: its mask is zero throughout", where=where, fix=_FIX)
        for place, (ids, mask) in enumerate(pack.sequences()):
            _check_sequence(ids, mask, layout, f"{where}, sequence {place}")


def _check_sequence(ids: np.ndarray, mask: np.ndarray, layout: Layout, where: str) -> None:
    pad = len(ids) - len(np.trim_zeros(ids != layout.eos_id, "b"))
    real = len(ids) - pad
    problem = None
    if (len(ids) - 1) % layout.pad_to_multiple or (pad and layout.pad_to_multiple == 1):
        problem = f"has {len(ids) - 1} inputs, {pad} of them padding; multiple: {layout.pad_to_multiple}"
    elif np.any(ids[:real] == layout.eos_id):
        problem = f"holds the tokenizer's eos ({layout.eos_id}) inside, where NeMo cuts it"
    elif ids[real - 1] != layout.end_of_turn_id:
        problem = f"ends in token {ids[real - 1]}, not in the end-of-turn token {layout.end_of_turn_id}"
    elif np.any(mask[real:]):
        problem = "has trained padding"
    elif mask[0]:
        problem = "trains its first token: the mask has no prompt, or is shifted by one"
    elif np.any(mask) and not mask[real - 1]:
        problem = "never trains its end-of-turn token: the mask is of another NeMo release"
    elif np.any(mask) and (low := mask[mask > 0].min()) != mask.max():
        problem = f"is drawn {low} times by one token of its mask, {mask.max()} times by another"
    if problem:
        raise UserError(problem, where=where, fix=_FIX)
