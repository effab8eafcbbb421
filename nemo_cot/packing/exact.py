"""The fewest packs, proven, for small sets of sequences (the paper's 20 traces)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nemo_cot.packing.bounds import lower_bound
from nemo_cot.packing.heuristics import best_fit

MAX_EFFORT = 30_000_000
"""Search before giving up, in sequences looked at: a few seconds, and below 1 GB."""

MAX_SEQUENCES = 200
"""Above this no search is begun (it recurses once a sequence); the bound may still prove best-fit."""


class ExactResult(NamedTuple):
    """``packs`` of indices, the best ``bound`` proven from below, and whether the two meet."""

    packs: list[list[int]]
    bound: int
    proven: bool


def pack_exact(lengths: np.ndarray, capacity: int, max_effort: int = MAX_EFFORT) -> ExactResult:
    """The fewest packs, by bin completion (Korf, A new algorithm for optimal bin packing, 2002).

    Starts at the best_fit strategy and asks, from the lower bound upwards, whether fewer packs do.
    ``proven`` is False when ``max_effort`` ran out first; the packs are then best-fit's and valid.
    ``lengths`` must be checked (1..capacity), shape (n,).
    """
    packs = best_fit(lengths, capacity)
    bound = lower_bound(lengths, capacity)
    budget = _Budget(max_effort if len(lengths) <= MAX_SEQUENCES else 0)
    while bound < len(packs):
        try:
            found = _fit_into(lengths, capacity, bound, budget)
        except _OutOfEffort:
            return ExactResult(packs, bound, proven=False)
        if found is not None:
            return ExactResult(found, bound, proven=True)
        bound += 1
    return ExactResult(packs, bound, proven=True)


class _OutOfEffort(Exception):
    pass


class _Budget:
    def __init__(self, effort: int) -> None:
        self.left = effort

    def spend(self, effort: int) -> None:
        self.left -= effort
        if self.left < 0:
            raise _OutOfEffort


def _fit_into(lengths: np.ndarray, capacity: int, packs: int, budget: _Budget) -> list[list[int]] | None:
    """Indices in ``packs`` packs, or None when that cannot be done."""
    descending = sorted(lengths.tolist(), reverse=True)
    waste = packs * capacity - sum(descending)
    if waste < 0:
        return None
    found = _search(tuple(descending), capacity, waste, budget, set())
    return None if found is None else _indices(found, lengths)


def _search(
    left: tuple[int, ...], capacity: int, waste: int, budget: _Budget, dead: set
) -> list[tuple[int, ...]] | None:
    """Packs of lengths for all of ``left`` (descending), leaving at most ``waste`` room empty.

    The longest sequence must be in some pack: try each way to complete its pack. ``dead`` holds
    the states already known to fail.
    """
    if not left:
        return []
    if (left, waste) in dead:
        return None
    ways = sorted(_completions(left[1:], capacity - left[0], waste, budget), key=lambda way: way[0])
    for unused, members, rest in ways:
        found = _search(rest, capacity, waste - unused, budget, dead)
        if found is not None:
            return [(left[0], *members), *found]
    dead.add((left, waste))
    return None


def _completions(
    left: tuple[int, ...], room: int, waste: int, budget: _Budget
) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """Ways to fill ``room`` from ``left`` (descending): (room unused, members, others).

    Only those that nothing left out would still fit into: moving a sequence into free room of
    an earlier pack never costs a pack. Equal lengths are tried once.
    """

    def extend(start: int, room: int, members: tuple[int, ...], out: tuple[int, ...]) -> Iterator:
        budget.spend(len(left))
        while start < len(left) and left[start] > room:
            out += (left[start],)
            start += 1
        if start == len(left):
            if room <= waste and not (out and out[-1] <= room):  # out[-1]: the shortest left out
                yield room, members, out
            return
        length = left[start]
        yield from extend(start + 1, room - length, (*members, length), out)
        after = start
        while after < len(left) and left[after] == length:
            after += 1
        yield from extend(after, room, members, out + left[start:after])

    return extend(0, room, (), ())


def _indices(packs: list[tuple[int, ...]], lengths: np.ndarray) -> list[list[int]]:
    """Replace lengths by indices; of equal lengths the lowest index goes first."""
    stock: dict[int, list[int]] = {}
    for index in range(len(lengths) - 1, -1, -1):
        stock.setdefault(int(lengths[index]), []).append(index)
    return [[stock[length].pop() for length in members] for members in packs]
