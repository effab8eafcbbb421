"""Pair fit: close each pack with the two sequences that fill it exactly.

Best-fit decreasing runs out of short sequences when lengths are alike (log-normal with a narrow
spread): its last packs, and the gaps in its first, stay open. Here each pack takes the longest
sequences left until two more can close it, and then a pair, as even as possible, whose sum is
the room left. Even pairs spare the shortest and the longest sequences for the packs to come.
A small cousin of minimum bin slack (Gupta and Ho, A new heuristic algorithm for the
one-dimensional bin-packing problem, 1999), which searches whole subsets.
"""

from __future__ import annotations

import numpy as np

from nemo_cot.packing.best_fit import group_by_pack


def pair_fit(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Packs of indices. ``lengths`` must be checked (1..capacity), shape (n,)."""
    stock = _Stock(lengths, capacity)
    taken: list[int] = []  # lengths in the order of placement
    sizes: list[int] = []  # sequences of each pack
    while stock.left:
        before = len(taken)
        _fill_one(stock, capacity, taken)
        sizes.append(len(taken) - before)
    order = _indices(np.asarray(taken, dtype=np.int64), lengths)
    return group_by_pack(order, np.repeat(np.arange(len(sizes)), sizes), len(sizes))


class _Stock:
    """Sequences not yet placed, by length.

    Two sets of lengths, as the bits of whole numbers: ``_have`` has bit L set when a sequence of
    length L is left, ``_mirror`` bit capacity - L. A shift of the mirror lines up every L with
    room - L, so that one AND finds all pairs that fill ``room``.
    """

    def __init__(self, lengths: np.ndarray, capacity: int) -> None:
        self.left = len(lengths)
        self.capacity = capacity
        counts = np.bincount(lengths, minlength=capacity + 1)
        self._counts = counts.tolist()
        self._have = _bits(counts > 0)
        self._mirror = _bits(counts[::-1] > 0)
        self.longest = self._have.bit_length() - 1

    def take(self, length: int) -> int:
        self.left -= 1
        self._counts[length] -= 1
        if not self._counts[length]:
            self._have ^= 1 << length
            self._mirror ^= 1 << (self.capacity - length)
            if length == self.longest:
                self.longest = self._have.bit_length() - 1
        return length

    def closing(self, room: int) -> tuple[int, ...]:
        """One length, or two, whose sum is ``room``; () when there are none."""
        if self._counts[room]:
            return (room,)
        half = room // 2
        pairs = (self._have & (self._mirror >> (self.capacity - room))) >> half
        if pairs and 2 * half == room and self._counts[half] == 1:
            pairs &= ~1  # the one sequence of half the room cannot pair with itself
        if not pairs:
            return ()
        longer = half + (pairs & -pairs).bit_length() - 1
        return longer, room - longer

    def longest_within(self, room: int) -> int:
        """The longest length of at most ``room``; 0 when there is none."""
        if room >= self.longest:
            return self.longest
        return max((self._have & ((2 << room) - 1)).bit_length() - 1, 0)


def _fill_one(stock: _Stock, room: int, taken: list[int]) -> None:
    while stock.left:
        if room <= 2 * stock.longest:
            closing = stock.closing(room)
            if closing:
                taken.extend(stock.take(length) for length in closing)
                return
        length = stock.longest_within(room)
        if not length:
            return
        taken.append(stock.take(length))
        room -= length


def _bits(flags: np.ndarray) -> int:
    """A whole number with bit i set where ``flags[i]``."""
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")


def _indices(taken: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The index for each length of ``taken``; of equal lengths the lowest index goes first."""
    indices = np.empty(len(taken), dtype=np.int64)
    indices[np.argsort(taken, kind="stable")] = np.argsort(lengths, kind="stable")
    return indices
