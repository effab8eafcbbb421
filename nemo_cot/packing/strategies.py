"""One entry to all packing strategies."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from nemo_cot.errors import UserError
from nemo_cot.packing.draws import permutations
from nemo_cot.packing.exact import MAX_EFFORT, MAX_SEQUENCES, pack_exact
from nemo_cot.packing.heuristics import best_fit
from nemo_cot.packing.lengths import checked_lengths

STRATEGIES = ("best_fit", "optimal", "shuffle", "in_order")


class PackingNotProven(UserWarning):
    """The search for the fewest packs gave up before its proof; the packs given are valid."""


def pack(
    lengths: Sequence[int], capacity: int, *, strategy: str = "best_fit", seed: int = 0
) -> list[list[int]]:
    """Packs of indices into ``lengths``; every index is in exactly one pack, none is over capacity.

    lengths: tokens of each sequence. capacity: tokens a pack may hold.
    strategy:
      best_fit  fast and dense: the fewer packs of pair fit and best-fit decreasing.
                Lengths decide who meets: the same long traces meet the same short ones.
      optimal   the fewest packs, proven; for small sets. Warns with :class:`PackingNotProven`,
                naming the gap, when the search gives up, and then gives best_fit's packs.
      shuffle   cuts a uniformly random order (``seed``) wherever the next sequence does not fit.
                Who meets whom is chance: no pair is brought together for its lengths, at the
                price of fewer full packs. For all other strategies ``seed`` has no effect.
      in_order  cuts the given order in the same way.
    Deterministic. Raises UserError naming the index when a length is not in 1..capacity, and
    for an unknown strategy.
    """
    array = checked_lengths(lengths, capacity)
    if strategy == "best_fit":
        return best_fit(array, capacity)
    if strategy == "optimal":
        return _optimal(array, capacity)
    if strategy == "shuffle":
        return _cut(permutations(1, len(array), seed)[0], array, capacity)
    if strategy == "in_order":
        return _cut(np.arange(len(array)), array, capacity)
    raise UserError(f"there is no packing strategy {strategy!r}", fix=f"use one of {', '.join(STRATEGIES)}")


def _optimal(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    packs, bound = pack_exact(lengths, capacity, MAX_EFFORT)
    if bound < len(packs):
        warnings.warn(
            f"{len(packs)} packs by best fit; whether {bound} would do is not settled: the search "
            f"stops at {MAX_EFFORT:,} looks at a sequence, and takes at most {MAX_SEQUENCES} sequences",
            PackingNotProven,
            stacklevel=3,
        )
    return packs


def _cut(order: np.ndarray, lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Next fit: a new pack begins wherever the next sequence in ``order`` would not fit."""
    indices = order.tolist()
    ends = np.cumsum(lengths[order]).tolist()  # tokens up to and including each place
    packs, start, before = [], 0, 0
    while start < len(indices):
        stop = bisect_right(ends, before + capacity, lo=start)
        packs.append(indices[start:stop])
        start, before = stop, ends[stop - 1]
    return packs
