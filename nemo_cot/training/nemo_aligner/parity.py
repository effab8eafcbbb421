"""Is the loss of a pack the mean of the losses of its sequences alone? Asked before the first step.

NeMo had releases in which it was not (its fix #14437 of 2025-08; one example had 5.29 packed
against 3.66 unpacked): attention, positions or the loss reached over the boundaries. Only the
real model on the real kernels can show that, so aligner_sft asks it, at the cost of about half a step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Item = Mapping[str, Any]
"""One row of NeMo's packed data set: input_ids, loss_mask, seq_boundaries (offsets, the first 0)."""

TOLERANCE = 0.005
"""Relative. A choice between two measurements, on a CPU with SmolLM2-135M and packs of prose (docs/nemo.md):
bf16 moves the loss of a pack by up to 0.08 % from that of its sequences alone; attention over the boundaries
by 23 to 44 %, with positions that run on too by 8 % (sequences of 400 tokens) and 3.5 % (of 1,500)."""


class Parity(NamedTuple):
    """Losses a trained token, in nats: of the pack, and of its sequences one by one."""

    packed: float
    alone: float

    @property
    def gap(self) -> float:
        """Relative difference; infinite for a loss that is no number."""
        gap = abs(self.packed - self.alone) / max(abs(self.alone), 1e-9)
        return gap if gap == gap else float("inf")


def packing_parity(item: Item, loss_of: Callable[[Item], float]) -> Parity:
    """Compare ``loss_of`` the pack with the mean over its sequences, weighted by their trained tokens."""
    parts = [part for part in sequences_of(item) if trained_tokens(part)]
    weights = [trained_tokens(part) for part in parts]
    total = sum(weight * loss_of(part) for weight, part in zip(weights, parts))
    return Parity(loss_of(item), total / sum(weights))


def sequences_of(item: Item) -> list[dict[str, Any]]:
    """Each sequence of a pack as a pack of its own."""
    ends = list(item["seq_boundaries"])
    return [
        {
            "input_ids": item["input_ids"][start:end],
            "loss_mask": item["loss_mask"][start:end],
            "seq_boundaries": [0, end - start],
        }
        for start, end in itertools.pairwise(ends)
    ]


def trained_tokens(item: Item) -> int:
    """Trained labels, a sequence's first token never being one; counts of draws count as such."""
    starts = set(item["seq_boundaries"])
    return int(sum(mask for place, mask in enumerate(item["loss_mask"]) if place not in starts))


def check_parity(found: Parity, *, tolerance: float = TOLERANCE) -> None:
    """Raise RuntimeError when the two losses differ by more than ``tolerance``."""
    line = f"loss of one pack {found.packed:.4f}, of its sequences alone {found.alone:.4f}"
    if not found.gap <= tolerance:
        raise RuntimeError(
            f"{line}: packing changes the loss by {found.gap:.1%}. This NeMo, Megatron or Transformer Engine "
            "trains over the boundaries of packs (NeMo #14437). Use the pinned container, or pack one "
            "sequence a row"
        )
    print(f"packing is sound: {line} ({found.gap:.2%} apart)", flush=True)


def model_loss(model: Any, dataset: Any, num_microbatches: int) -> Callable[[Item], float]:
    """What Aligner's GPTSFTModel loses on one pack: its validation step on a batch of nothing else."""

    def loss_of(item: Item) -> float:
        model.prepare_for_validation_step()
        batch = dataset.collate_fn([item] * num_microbatches)
        loss, _ = model.get_loss_and_metrics(batch=batch, forward_only=True)
        model.finish_validation_step()
        return float(loss)

    return loss_of
