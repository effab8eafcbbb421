"""The fewest packs, proven, for small sets of sequences (the paper's 20 traces)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nemo_cot.packing.bounds import lower_bound
from nemo_cot.packing.heuristics import best_fit

MAX_EFFORT = 30_000_000
"""Search before giving up, in sequences looked at: a few seconds, and below 1 GB."""

MAX_SEQUENCES = 200
"""Above this no search is begun (it recurses once per sequence); the bound may still prove best-fit."""


class _OutOfEffort(Exception):
    pass


def pack_exact(
    lengths: np.ndarray, capacity: int, max_effort: int = MAX_EFFORT
) -> tuple[list[list[int]], int]:
    """Packs of indices, and the best bound proven from below: where the two meet, they are the fewest.

    Bin completion (Korf, A new algorithm for optimal bin packing, 2002). Starts at the best_fit strategy
    and asks, from the lower bound upwards, whether fewer packs do; when ``max_effort`` runs out first, the
    packs are best-fit's. ``lengths`` must be checked (1..capacity), shape (n,).
    """
    packs, bound = best_fit(lengths, capacity), lower_bound(lengths, capacity)
    descending = tuple(sorted(lengths.tolist(), reverse=True))
    search = _Search(capacity, max_effort if len(lengths) <= MAX_SEQUENCES else 0)
    while bound < len(packs):
        try:
            found = search.fit(descending, bound * capacity - sum(descending))
        except _OutOfEffort:
            break
        if found is not None:
            return _indices(found, lengths), bound
        bound += 1
    return packs, bound


class _Search:
    """``dead`` holds the states already known to fail; ``effort`` is what is left of it."""

    def __init__(self, capacity: int, effort: int) -> None:
        self.capacity, self.effort = capacity, effort
        self.dead: set[tuple[tuple[int, ...], int]] = set()

    def fit(self, left: tuple[int, ...], waste: int) -> list[tuple[int, ...]] | None:
        """Packs of lengths for all of ``left`` (descending) that leave at most ``waste`` room empty, or None.

        The longest sequence must be in some pack: try each way to complete its pack.
        """
        if not left:
            return []
        if (left, waste) in self.dead:
            return None
        ways = sorted(self._completions(left[1:], self.capacity - left[0], waste), key=lambda way: way[0])
        for unused, members, rest in ways:
            found = self.fit(rest, waste - unused)
            if found is not None:
                return [(left[0], *members), *found]
        self.dead.add((left, waste))
        return None

    def _completions(
        self, left: tuple[int, ...], room: int, waste: int
    ) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
        """Ways to fill ``room`` from ``left`` (descending): (room unused, members, others).

        Only those that nothing left out would still fit into: moving a sequence into free room of
        an earlier pack never costs a pack. Equal lengths are tried once.
        """

        def extend(start: int, room: int, members: tuple[int, ...], out: tuple[int, ...]) -> Iterator:
            self.effort -= len(left)
            if self.effort < 0:
                raise _OutOfEffort
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
