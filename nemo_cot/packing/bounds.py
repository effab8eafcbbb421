"""How few packs there can be, and how full the packs are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nemo_cot.packing.lengths import checked_lengths

ROUNDINGS = 20
"""How many of the rounding functions u(k) to try; each costs one pass over the distinct lengths."""


def utilisation(packs: Sequence[Sequence[int]], lengths: Sequence[int], capacity: int) -> float:
    """Share of the packs' room that tokens fill: 0 to 1, and 1.0 for no packs at all."""
    if not packs:
        return 1.0
    used = sum(int(lengths[index]) for members in packs for index in members)
    return used / (len(packs) * capacity)


def lower_bound(lengths: Sequence[int], capacity: int) -> int:
    """A number of packs that no packing can go below.

    The bound of Fekete and Schepers (New classes of fast lower bounds for bin packing problems,
    Mathematical Programming 91, 2001): the largest over dual feasible functions u(k) composed
    with U(threshold). It is never below L2 of Martello and Toth (Lower bounds and reduction
    procedures for the bin packing problem, 1990), which is the case of u = identity and k = 1.
    Raises UserError for lengths that no pack can hold.
    """
    array = checked_lengths(lengths, capacity)
    if array.size == 0:
        return 0
    values, counts = np.unique(array, return_counts=True)
    return max(
        _best_threshold(values, counts * weights, counts * scale, capacity, scale)
        for weights, scale in _rounded_weights(values, capacity)
    )


def _rounded_weights(values: np.ndarray, capacity: int) -> list[tuple[np.ndarray, int]]:
    """Pairs (weight of each value, weight of a full pack), in whole numbers: identity, then u(1..).

    u(k)(x) for x = value / capacity is x where (k + 1) x is whole, else floor((k + 1) x) / k.
    """
    pairs = [(values, capacity)]
    for k in range(1, ROUNDINGS + 1):
        floors, rest = np.divmod((k + 1) * values, capacity)
        pairs.append((np.where(rest == 0, k * values, floors * capacity), k * capacity))
    return pairs


def _best_threshold(
    values: np.ndarray, weights: np.ndarray, full: np.ndarray, capacity: int, scale: int
) -> int:
    """Largest bound over thresholds t in 0..capacity/2.

    U(t) counts a length over capacity - t as a whole pack and drops the lengths below t.
    ``values`` ascend; ``weights`` and ``full`` are summed over the sequences of each value.
    """
    running = np.concatenate([[0], np.cumsum(weights)])
    running_full = np.concatenate([[0], np.cumsum(full)])
    thresholds = np.concatenate([[0], values[2 * values <= capacity]])
    low = np.searchsorted(values, thresholds, side="left")
    high = np.searchsorted(values, capacity - thresholds, side="right")
    totals = running[high] - running[low] + running_full[-1] - running_full[high]
    return int(-(-int(totals.max()) // scale))
