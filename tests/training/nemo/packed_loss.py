"""A pack's loss in transformers in one forward pass, its boundaries a mask that a trap can leave out.

Independent of the smoke test's own reference (nemo_cot.training.nemo_aligner.smoke_model.loss_of_pack), which never packs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Sequences = Sequence[tuple[np.ndarray, np.ndarray]]
"""Ids and loss mask of each sequence of a pack, as nemo_cot.training.nemo_aligner.packed_file.Pack.sequences gives them."""
TRAPS = ("attention", "attention and positions")


def packed_loss(model: Any, sequences: Sequences, *, trap: str | None = None) -> float:
    """Mean over the trained tokens, nats. ``trap``: None, or what goes over the boundaries, of TRAPS."""
    import torch

    tokens = [torch.tensor(np.asarray(ids, np.int64)) for ids, _ in sequences]
    trained = torch.cat([torch.tensor(np.asarray(mask, np.float32)[1:]) for _, mask in sequences])
    inputs, labels = torch.cat([ids[:-1] for ids in tokens]), torch.cat([ids[1:] for ids in tokens])
    owner = torch.cat([torch.full((len(ids) - 1,), n) for n, ids in enumerate(tokens)])
    positions = torch.cat([torch.arange(len(ids) - 1) for ids in tokens])
    if trap == "attention and positions":
        positions = torch.arange(len(inputs))
    seen = torch.ones(len(inputs), len(inputs), dtype=torch.bool).tril()
    if trap is None:
        seen &= owner[:, None] == owner[None]
    hidden = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)
    with torch.no_grad():
        logits = model(inputs[None], attention_mask=hidden[None, None], position_ids=positions[None]).logits[
            0
        ]
    each = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    return float((each * trained).sum() / trained.sum())


def model_of(folder: Any, *, dtype: str = "float32") -> Any:
    """The model of a Hugging Face directory, in torch's ``dtype``, on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=getattr(torch, dtype), local_files_only=True
    )
    return model.eval()
