"""Literal and distinct batches: the same draws, the same number of packs every step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.errors import UserError
from nemo_cot.packing import distinct_packs, draw_counts, literal_draws, literal_packs, split_to

LENGTHS = np.random.default_rng(5).integers(5, 60, 20)
DRAWS = literal_draws(20, 4, 64, seed=2)


def counted(batch, step: int, num_sequences: int) -> list[int]:
    """How often the packs of ``step`` hold each sequence, by their weights."""
    counts = [0] * num_sequences
    for at in range(step * batch.packs_per_step, (step + 1) * batch.packs_per_step):
        for index, weight in zip(batch.packs[at], batch.weights[at]):
            counts[index] += weight
    return counts


@pytest.mark.parametrize("multiple_of", [1, 8])
@pytest.mark.parametrize("make", [literal_packs, distinct_packs])
def test_every_step_trains_what_it_draws_in_the_same_number_of_packs(make, multiple_of):
    batch = make(DRAWS, LENGTHS, 100, multiple_of=multiple_of)
    expected = draw_counts(DRAWS, 20)
    assert len(batch.packs) == len(batch.weights) == 4 * batch.packs_per_step
    assert batch.packs_per_step % multiple_of == 0
    for step in range(4):
        assert counted(batch, step, 20) == expected[step].tolist()
    assert max(LENGTHS[members].sum() for members in batch.packs) <= 100


def test_distinct_batches_hold_each_sequence_once_a_step():
    batch = distinct_packs(DRAWS, LENGTHS, 100)
    first = batch.packs[: batch.packs_per_step]
    assert sorted(itertools.chain.from_iterable(first)) == list(range(20))
    assert batch.packs == first * 4


def test_shuffled_steps_are_shuffled_apart():
    draws = np.tile(np.arange(20), (2, 1))
    batch = literal_packs(draws, [10] * 20, 100, strategy="shuffle")
    assert batch.packs[: batch.packs_per_step] != batch.packs[batch.packs_per_step :]


def test_a_pack_of_which_a_step_draws_a_part_is_trained_by_that_part():
    batch = distinct_packs(np.array([[0, 2], [1, 2]]), [40, 40, 80], 100)
    assert batch.packs_per_step == 2
    assert [dict(zip(*pair)) for pair in zip(batch.packs, batch.weights)] in (
        [{0: 1, 1: 0}, {2: 1}, {0: 0, 1: 1}, {2: 1}],
        [{2: 1}, {0: 1, 1: 0}, {2: 1}, {0: 0, 1: 1}],
    )


def test_a_pack_that_a_step_never_draws_is_refused():
    draws = np.array([[0, 1], [0, 0]])
    with pytest.raises(UserError, match="step 1 draws no sequence of one of the 2 packs"):
        distinct_packs(draws, [80, 80], 100)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_splitting_keeps_members_and_reaches_the_count(sizes, more):
    members = iter(range(100))
    packs = [[next(members) for _ in range(size)] for size in sizes]
    count = min(len(packs) + more, sum(sizes))
    cut = split_to(packs, count)
    assert len(cut) == count
    assert all(cut)
    assert sorted(itertools.chain.from_iterable(cut)) == list(range(sum(sizes)))


@pytest.mark.parametrize("count", [1, 4])
def test_splitting_to_fewer_packs_or_beyond_single_sequences_is_refused(count):
    with pytest.raises(UserError, match=rf"3 sequences in 2 packs cannot make {count} packs"):
        split_to([[0, 1], [2]], count)
