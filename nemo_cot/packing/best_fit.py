"""Best-fit decreasing over whole groups of equal lengths: a million sequences in a second."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np


def best_fit_decreasing(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Packs of indices, longest sequence first in each.

    The same packs, by their lengths, as plain best-fit decreasing (Johnson, 1973), reached group
    by group: packs of equal room are interchangeable, and a pack that is the best fit for a
    length stays so while the length still fits, so one step serves many sequences and packs.
    Work grows with the distinct pairs (length, room), not with sequences times packs.
    """
    order = np.argsort(-lengths, kind="stable")
    values, counts = np.unique(lengths, return_counts=True)
    rooms = _Rooms(capacity)
    placed = [rooms.place(int(v), int(n)) for v, n in zip(values[::-1], counts[::-1])]
    pack_of_sorted = np.concatenate(placed) if placed else np.zeros(0, dtype=np.int64)
    return group_by_pack(order, pack_of_sorted, rooms.opened)


class _Rooms:
    """Open packs by the room that they have left. Full packs are forgotten."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.opened = 0
        self._packs: dict[int, list[int]] = {}  # room -> numbers of the packs with that room
        self._sorted: list[int] = []  # the keys of _packs, ascending

    def place(self, length: int, count: int) -> np.ndarray:
        """Place ``count`` sequences of ``length``; returns the pack number of each, shape (count,)."""
        chunks = []
        while count:
            where = bisect_left(self._sorted, length)
            if where == len(self._sorted):
                self._open(-(-count // (self.capacity // length)))
                continue
            numbers = self._fill(self._sorted[where], length, count)
            chunks.append(numbers)
            count -= len(numbers)
        return np.concatenate(chunks) if len(chunks) > 1 else chunks[0]

    def _open(self, count: int) -> None:
        self._add(self.capacity, list(range(self.opened, self.opened + count)))
        self.opened += count

    def _fill(self, room: int, length: int, count: int) -> np.ndarray:
        """Fill packs of ``room`` with as many of ``length`` as fit; the last may take fewer."""
        each = room // length
        packs = self._packs[room]
        whole, rest = divmod(count, each)
        taken = self._take(room, min(whole + (rest > 0), len(packs)))
        partly = rest if len(taken) > whole else 0
        if partly:
            self._add(room - partly * length, taken[-1:])
        self._add(room - each * length, taken[: len(taken) - (partly > 0)])
        return np.repeat(np.asarray(taken), each)[:count]

    def _take(self, room: int, count: int) -> list[int]:
        packs = self._packs[room]
        if count == len(packs):
            del self._packs[room]
            del self._sorted[bisect_left(self._sorted, room)]
            return packs
        taken = packs[-count:]
        del packs[-count:]
        return taken

    def _add(self, room: int, packs: list[int]) -> None:
        if room == 0 or not packs:
            return
        if room in self._packs:
            self._packs[room].extend(packs)
        else:
            self._packs[room] = packs
            insort(self._sorted, room)


def group_by_pack(indices: np.ndarray, pack_of: np.ndarray, packs: int) -> list[list[int]]:
    """Gather ``indices`` by the number of their pack, both of shape (n,), keeping their order."""
    by_pack = indices[np.argsort(pack_of, kind="stable")].tolist()
    ends = np.cumsum(np.bincount(pack_of, minlength=packs)).tolist()
    return [by_pack[start:end] for start, end in zip([0, *ends[:-1]], ends)]
