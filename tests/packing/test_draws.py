"""Literal draws: whole epochs, evenly spread, the same for ever for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.errors import UserError
from nemo_cot.packing import draw_counts, literal_draws


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 40), st.integers(0, 2**63))
@settings(max_examples=80, deadline=None)
def test_draws_are_epochs_of_permutations(num_sequences, steps, batch, seed):
    draws = literal_draws(num_sequences, steps, batch, seed)
    assert draws.shape == (steps, batch)
    flat = draws.reshape(-1)
    for start in range(0, len(flat), num_sequences):
        epoch = flat[start : start + num_sequences]
        assert len(set(epoch.tolist())) == len(epoch)
    assert set(flat.tolist()) <= set(range(num_sequences))


def test_the_paper_draws_each_trace_about_51_times_a_step():
    counts = draw_counts(literal_draws(20, 50, 1024, seed=0), 20)
    assert counts.shape == (50, 20)
    assert set(counts.reshape(-1).tolist()) <= {50, 51, 52, 53}
    assert (counts.sum(axis=1) == 1024).all()
    assert (counts.sum(axis=0) == 2560).all()


@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 30))
@settings(max_examples=50, deadline=None)
def test_counts_agree_with_counting_by_hand(num_sequences, steps, batch):
    draws = literal_draws(num_sequences, steps, batch, seed=1)
    expected = [[list(row).count(i) for i in range(num_sequences)] for row in draws.tolist()]
    assert draw_counts(draws, num_sequences).tolist() == expected


def test_draws_are_pinned_for_ever():
    # A change here changes every literal run: PCG64's raw stream is promised by NumPy.
    assert literal_draws(5, 2, 6, seed=7).tolist() == [[3, 4, 0, 2, 1, 1], [4, 3, 2, 0, 2, 1]]
    assert (literal_draws(20, 5, 64, 1) != literal_draws(20, 5, 64, 2)).any()


@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_refuses_counts_below_one(arguments):
    with pytest.raises(UserError, match="is 0"):
        literal_draws(*arguments, seed=0)


@pytest.mark.parametrize("draws", [[[0, 4]], [[4, 0]], [[-1, 3]], [[0, 1], [2, -1]]])
def test_refuses_draws_of_other_sequences(draws):
    with pytest.raises(UserError, match=r"the draws reach from -?\d to \d, outside 0\.\.3"):
        draw_counts(np.array(draws), 4)
    assert draw_counts(np.array([[0, 3]]), 4).tolist() == [[1, 0, 0, 1]]
