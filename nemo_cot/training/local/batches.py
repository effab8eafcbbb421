"""Which sequences a step computes, and how much each token of them weighs.

The literal sampler draws ``global_batch_size`` sequences per step out of shuffled epochs of the
traces, so a trace is drawn many times in a step. ``literal`` computes every draw. ``distinct``
computes each drawn trace once and weighs its loss by its draws: without dropout the same gradient
to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nemo_cot.config import PackConfig
from nemo_cot.packing import pack
from nemo_cot.packing.draws import draw_counts, literal_draws
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.training.local.config import LocalTrain


@dataclass(frozen=True)
class WeightedPack:
    """``sequences`` (indices into the tokenised traces) of one pack.

    ``weights`` holds one number a sequence: what every loss-bearing token of it counts for. Over
    all packs of a step, weights times trained tokens sum to 1.
    """

    sequences: tuple[int, ...]
    weights: tuple[float, ...]


class BatchPlan:
    """The packs of every step; a pure function of config and sequences, so a resumed run agrees."""

    def __init__(self, train: LocalTrain, packing: PackConfig, sequences: Sequence[TokenSequence]) -> None:
        self._train, self._packing, self._sequences = train, packing, sequences
        self._lengths = [len(s.input_ids) for s in sequences]
        self._draws = literal_draws(len(sequences), train.max_steps, train.global_batch_size, train.seed)
        self._counts = draw_counts(self._draws, len(sequences))
        self._distinct: dict[tuple[int, ...], list[list[int]]] = {}

    def packs(self, step: int) -> list[WeightedPack]:
        """The packs of ``step`` (from 0)."""
        token_weights = self._token_weights(step)
        return [
            WeightedPack(tuple(members), tuple(float(token_weights[i]) for i in members))
            for members in self._members(step)
        ]

    def draws(self, step: int) -> list[int]:
        """How often ``step`` (from 0) draws each sequence."""
        return [int(count) for count in self._counts[step]]

    def _token_weights(self, step: int) -> np.ndarray:
        """Weight of one token of each sequence, per computed copy of it.

        token_mean: every token of the global batch counts alike. sequence_mean: every drawn
        sequence counts alike, its tokens share.
        """
        counts = self._counts[step].astype(np.float64)
        trained = np.array([s.num_trained_tokens for s in self._sequences], dtype=np.float64)
        if self._train.objective == "token_mean":
            weights = np.full(len(trained), 1.0 / (counts @ trained))
        else:
            weights = 1.0 / (trained * counts.sum())
        return weights * counts if self._train.batching == "distinct" else weights

    def _members(self, step: int) -> list[list[int]]:
        if self._train.batching == "literal":
            return self._pack(tuple(int(i) for i in self._draws[step]))
        drawn = tuple(int(i) for i in np.flatnonzero(self._counts[step]))
        if drawn not in self._distinct:
            self._distinct[drawn] = self._pack(drawn)
        return self._distinct[drawn]

    def _pack(self, indices: tuple[int, ...]) -> list[list[int]]:
        packs = pack(
            [self._lengths[i] for i in indices],
            self._packing.capacity_tokens,
            strategy=self._packing.strategy,
            seed=self._packing.seed,
        )
        return [[indices[slot] for slot in members] for members in packs]
