"""The fast strategy: pair fit, and best-fit decreasing where that one is not already good."""

from __future__ import annotations

import numpy as np

from nemo_cot.packing.best_fit import best_fit_decreasing
from nemo_cot.packing.bounds import lower_bound
from nemo_cot.packing.pair_fit import pair_fit

GOOD_ENOUGH = 0.001
"""Share of packs over the lower bound below which the second heuristic is not tried."""


def best_fit(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """The fewer packs of the two heuristics; pair fit's when they tie or are near the bound.

    ``lengths`` must be checked (1..capacity), shape (n,).
    """
    packs = pair_fit(lengths, capacity)
    if len(packs) <= lower_bound(lengths, capacity) * (1 + GOOD_ENOUGH):
        return packs
    others = best_fit_decreasing(lengths, capacity)
    return others if len(others) < len(packs) else packs
