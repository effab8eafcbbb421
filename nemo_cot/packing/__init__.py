"""Packing: put sequences of different lengths into rows of one capacity, and draw batches.

Light: NumPy only, no torch. Lengths are counts of tokens; what a length counts is the caller's
choice (NeMo's packed files count one less per sequence, see :mod:`nemo_cot.training.nemo_aligner.packed_file`).
"""

from __future__ import annotations

from nemo_cot.packing.batches import StepPacks, distinct_packs, literal_packs, split_to
from nemo_cot.packing.bounds import lower_bound, utilisation
from nemo_cot.packing.draws import draw_counts, literal_draws
from nemo_cot.packing.strategies import STRATEGIES, PackingNotProven, pack

__all__ = [
    "STRATEGIES",
    "PackingNotProven",
    "StepPacks",
    "distinct_packs",
    "draw_counts",
    "literal_draws",
    "literal_packs",
    "lower_bound",
    "pack",
    "split_to",
    "utilisation",
]
