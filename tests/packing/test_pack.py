"""Packing: validity for every strategy, the optimum for small sets, determinism."""

from __future__ import annotations

import itertools
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.errors import UserError
from nemo_cot.packing import (
    STRATEGIES,
    PackingNotProven,
    lower_bound,
    pack,
    utilisation,
)
from nemo_cot.packing.best_fit import best_fit_decreasing
from nemo_cot.packing.exact import pack_exact

CAPACITY = 100
HARD = [55, 52, 41, 39, 35, 29, 28, 12]  # 291 of 300: three packs, which the heuristics miss
any_lengths = st.lists(st.integers(1, CAPACITY), max_size=60)


def fewest_by_exhaustion(lengths: list[int], capacity: int) -> int:
    """Smallest number of packs over all assignments, by the restricted growth of set partitions."""

    def place(index: int, rooms: tuple[int, ...]) -> int:
        if index == len(lengths):
            return len(rooms)
        length = lengths[index]
        tries = [
            place(index + 1, (*rooms[:i], room - length, *rooms[i + 1 :]))
            for i, room in enumerate(rooms)
            if room >= length
        ]
        return min([*tries, place(index + 1, (*rooms, capacity - length))])

    return place(0, ())


def assert_valid(packs: list[list[int]], lengths, capacity: int) -> None:
    assert sorted(itertools.chain.from_iterable(packs)) == list(range(len(lengths)))
    assert all(members for members in packs)
    assert max((sum(lengths[i] for i in members) for members in packs), default=0) <= capacity


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(lengths=any_lengths)
@settings(max_examples=60, deadline=None)
def test_every_strategy_places_each_sequence_once_and_within_capacity(strategy, lengths):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PackingNotProven)
        packs = pack(lengths, CAPACITY, strategy=strategy, seed=3)
    assert_valid(packs, lengths, CAPACITY)
    assert len(packs) >= lower_bound(lengths, CAPACITY)


def plain_best_fit_decreasing(lengths: list[int], capacity: int) -> list[int]:
    """Tokens in each pack, one sequence at a time, as the textbook says."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [i for i, room in enumerate(rooms) if room >= length]
        if not fitting:
            rooms.append(capacity)
            fitting = [len(rooms) - 1]
        rooms[min(fitting, key=lambda i: rooms[i])] -= length
    return [capacity - room for room in rooms]


@given(lengths=any_lengths)
@settings(max_examples=100, deadline=None)
def test_grouped_best_fit_decreasing_fills_packs_as_the_textbook_does(lengths):
    packs = best_fit_decreasing(np.asarray(lengths, dtype=np.int64), CAPACITY)
    assert_valid(packs, lengths, CAPACITY)
    filled = sorted(sum(lengths[i] for i in members) for members in packs)
    assert filled == sorted(plain_best_fit_decreasing(lengths, CAPACITY))
    assert len(pack(lengths, CAPACITY)) <= len(packs)


def test_best_fit_is_within_a_thousandth_of_the_bound_on_long_traces():
    lengths = np.random.default_rng(0).lognormal(np.log(3000), 0.5, 20_000).astype(int).clip(1, 16_384)
    packs = pack(lengths, 16_384)
    assert_valid(packs, lengths.tolist(), 16_384)
    assert len(packs) <= 1.001 * lower_bound(lengths, 16_384)


@given(lengths=st.lists(st.integers(1, 12), max_size=8))
@settings(max_examples=150, deadline=None)
def test_optimal_and_bound_agree_with_exhaustive_search(lengths):
    fewest = fewest_by_exhaustion(lengths, 12)
    packs, bound = pack_exact(np.asarray(lengths, dtype=np.int64), 12)
    assert_valid(packs, lengths, 12)
    assert len(packs) == bound == fewest
    assert lower_bound(lengths, 12) <= fewest


@pytest.mark.parametrize("seed", range(10))
def test_twenty_traces_reach_a_proven_optimum(seed):
    lengths = np.random.default_rng(seed).integers(500, 9000, 20)
    packs, bound = pack_exact(lengths, 16_384)
    assert len(packs) == bound
    assert_valid(packs, lengths.tolist(), 16_384)


def test_optimal_beats_best_fit_where_best_fit_is_not_optimal():
    assert len(pack(HARD, 100)) == 4
    packs = pack(HARD, 100, strategy="optimal")
    assert_valid(packs, HARD, 100)
    assert len(packs) == 3


def test_a_search_that_gives_up_says_so_and_keeps_valid_packs(monkeypatch):
    monkeypatch.setattr("nemo_cot.packing.strategies.MAX_EFFORT", 10)
    with pytest.warns(PackingNotProven, match=r"4 packs by best fit; whether 3 would do"):
        packs = pack(HARD, 100, strategy="optimal")
    assert_valid(packs, HARD, 100)


def test_bound_sees_sequences_that_cannot_share_a_pack():
    assert lower_bound([51] * 7, 100) == 7
    assert lower_bound([34] * 9, 100) == 5  # u(2): no pack takes three
    assert lower_bound([50] * 7, 100) == 4
    assert lower_bound([], 100) == 0


def test_shuffle_lets_every_pair_of_equal_traces_meet_equally_often():
    met = np.zeros((6, 6))
    for seed in range(3000):
        for members in pack([30] * 6, 100, strategy="shuffle", seed=seed):
            for a, b in itertools.permutations(members, 2):
                met[a, b] += 1
    rates = met[~np.eye(6, dtype=bool)] / 3000  # two packs of three: each pair meets 2 in 5 times
    assert np.abs(rates - 0.4).max() < 0.05


def cut(order, lengths, capacity):
    """Packs of ``order``: a new one wherever the next sequence does not fit."""
    packs, room = [], 0
    for index in order:
        if lengths[index] > room:
            packs.append([])
            room = capacity
        packs[-1].append(index)
        room -= lengths[index]
    return packs


def test_shuffle_lets_unequal_traces_meet_as_often_as_over_all_orders():
    lengths = [10, 20, 30, 40, 50, 60, 60, 90]  # 90 meets 10 alone
    orders, seeds = list(itertools.permutations(range(8))), range(4000)
    expected, met = np.zeros((8, 8)), np.zeros((8, 8))
    for order in orders[::7]:  # 5,760 of 40,320
        for members in cut(order, lengths, 100):
            expected[np.ix_(members, members)] += 7 / len(orders)
    for seed in seeds:
        for members in pack(lengths, 100, strategy="shuffle", seed=seed):
            met[np.ix_(members, members)] += 1 / len(seeds)
    pairs = ~np.eye(8, dtype=bool)
    fits = (np.add.outer(lengths, lengths) <= 100) & pairs
    assert (met[pairs & ~fits] == 0).all() and met[fits].min() > 0.05
    assert np.abs(met - expected)[pairs].max() < 0.04


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_same_arguments_same_packs_and_only_shuffle_heeds_the_seed(strategy):
    lengths = np.random.default_rng(0).integers(1, 60, 40).tolist()
    first, again, other = (pack(lengths, 100, strategy=strategy, seed=s) for s in (1, 1, 2))
    assert first == again == pack(np.asarray(lengths), 100, strategy=strategy, seed=1)
    assert (first != other) == (strategy == "shuffle")


def test_in_order_keeps_the_order():
    assert pack([60, 30, 20, 90, 10], 100, strategy="in_order") == [[0, 1], [2], [3, 4]]


@pytest.mark.parametrize(
    ("lengths", "capacity", "says"),
    [
        ([5, 101, 102], 100, r"sequence 1 has length 101, over the capacity 100 \(and 1 more\)"),
        ([5, 0], 100, "sequence 1 has length 0"),
        ([-3], 100, "sequence 0 has length -3"),
        ([1.5], 100, "type float64"),
        ([True], 100, "type bool"),
        ([[1]], 100, "2 dimension"),
        ([1], 0, "the capacity is 0"),
        ([1], 1.0, "the capacity is 1.0"),
    ],
)
def test_refuses_lengths_and_capacities_that_make_no_sense(lengths, capacity, says):
    with pytest.raises(UserError, match=says):
        pack(lengths, capacity)


def test_refuses_an_unknown_strategy_by_name():
    with pytest.raises(UserError, match=r"'worst'.*best_fit"):
        pack([1], 2, strategy="worst")


def test_utilisation_counts_room_of_all_packs():
    assert utilisation([[0], [1, 2]], [50, 60, 40], 100) == 0.75
    assert utilisation([], [], 100) == 1.0


def test_trap_packing_a_large_set_takes_seconds_not_an_hour():
    """The bar is 2 s for a million on one core; here a third of them, with room for a busy machine."""
    lengths = np.random.default_rng(0).lognormal(np.log(3000), 0.6, 300_000).astype(int).clip(1, 16_384)
    started = time.process_time()
    packs = pack(lengths.tolist(), 16_384, strategy="best_fit")
    assert time.process_time() - started < 60
    assert len(packs) <= 1.003 * lower_bound(lengths.tolist(), 16_384)
