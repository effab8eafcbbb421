"""The packs of each training step: as drawn (literal), or each trace once with a count (distinct).

A trainer that counts its global batch in packs, as NeMo-Aligner does, needs the same number of
packs in every step. Steps that could do with fewer get one or two packs split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nemo_cot.errors import UserError
from nemo_cot.packing.draws import draw_counts
from nemo_cot.packing.strategies import pack


class StepPacks(NamedTuple):
    """Packs in the order of training, ``packs_per_step`` for each step.

    ``weights`` has the nesting of ``packs``: how often the step draws each member of each pack.
    """

    packs: list[list[int]]
    weights: list[list[int]]
    packs_per_step: int


def literal_packs(
    draws: np.ndarray,
    lengths: Sequence[int],
    capacity: int,
    *,
    strategy: str = "best_fit",
    seed: int = 0,
    multiple_of: int = 1,
) -> StepPacks:
    """Pack every draw of every step: weights are all 1.

    draws: indices into ``lengths``, shape (steps, global_batch_size). multiple_of: what the packs
    of a step must be a multiple of (data-parallel ranks). Raises UserError as :func:`pack` does,
    and when a step draws fewer sequences than ``multiple_of``.
    """
    lengths = np.asarray(lengths)
    steps = []
    for step, row in enumerate(np.asarray(draws)):
        places = pack(lengths[row], capacity, strategy=strategy, seed=seed + step)
        steps.append([row[members].tolist() for members in places])
    packs_per_step = _round_up(max(len(packs) for packs in steps), multiple_of)
    packs = [members for packs in steps for members in split_to(packs, packs_per_step)]
    return StepPacks(packs, [[1] * len(members) for members in packs], packs_per_step)


def distinct_packs(
    draws: np.ndarray,
    lengths: Sequence[int],
    capacity: int,
    *,
    strategy: str = "optimal",
    seed: int = 0,
    multiple_of: int = 1,
) -> StepPacks:
    """Pack each sequence once, repeat the packs every step, and weigh by the step's draw counts.

    Arguments and errors as :func:`literal_packs`. Raises UserError too when a step draws nothing
    of a pack: there would be nothing to train on, and NeMo would divide by zero.
    """
    counts = draw_counts(draws, len(lengths))
    packs = pack(lengths, capacity, strategy=strategy, seed=seed)
    packs = split_to(packs, _round_up(len(packs), multiple_of))
    weights = [[row[members].tolist() for members in packs] for row in counts]
    for step, row in enumerate(weights):
        if not all(any(drawn) for drawn in row):
            raise UserError(
                f"step {step} draws no sequence of one of the {len(packs)} packs",
                fix="use literal batching, or a global batch of at least the number of sequences",
            )
    return StepPacks(packs * len(weights), [drawn for row in weights for drawn in row], len(packs))


def split_to(packs: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """``packs`` cut into exactly ``count``, halving the pack of most members each time.

    Raises UserError when there are fewer members than ``count``, or already more packs.
    """
    cut = [list(members) for members in packs]
    if not len(cut) <= count <= sum(map(len, cut)):
        raise UserError(
            f"{sum(map(len, cut))} sequences in {len(cut)} packs cannot make {count} packs",
            fix="lower the number of data-parallel ranks, or raise the batch",
        )
    while len(cut) < count:
        largest = max(range(len(cut)), key=lambda number: len(cut[number]))
        members = cut[largest]
        cut[largest] = members[: len(members) // 2]
        cut.append(members[len(members) // 2 :])
    return cut


def _round_up(count: int, multiple_of: int) -> int:
    return -(-count // multiple_of) * multiple_of
