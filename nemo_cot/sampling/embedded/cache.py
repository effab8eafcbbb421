"""A key-value cache that is allocated once and written in place."""

from __future__ import annotations

import torch


class PreallocatedCache:
    """Keys and values of ``rows`` sequences, as transformers' models ask for them.

    ``update`` writes the new positions of one layer behind those seen and returns views of all of
    them, (rows, kv_heads, seen, head_dim): nothing is copied as a sequence grows.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.seen = 0
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (rows, kv_heads, new, head_dim) of ``layer``; returns everything seen by it."""
        if layer == len(self._layers):
            self._layers.append((self._empty(key), self._empty(value)))
        keys, values = self._layers[layer]
        end = self.seen + key.shape[2]
        keys[:, :, self.seen : end] = key
        values[:, :, self.seen : end] = value
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, new: int) -> None:
        """Count ``new`` positions as seen; call it once after each pass of the model."""
        self.seen += new

    def select(self, rows: torch.Tensor) -> None:
        """Keep ``rows`` (int64 indices, repeats allowed), in that order."""
        self._layers = [(keys[rows], values[rows]) for keys, values in self._layers]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions seen, as transformers asks for it."""
        return self.seen

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        rows, heads, _, width = like.shape
        return like.new_empty(rows, heads, self.capacity, width)
