"""Which sequence is drawn at which place of which step: literal batches and their counts.

The paper draws 1,024 sequences per step from 20 traces. Epochs are random permutations, one after
another, cut into batches wherever a batch happens to be full: so each trace is drawn about 51
times per step, and over a whole run no trace is drawn more than once more often than another.
"""

from __future__ import annotations

import numpy as np

from nemo_cot.errors import UserError


def permutations(count: int, size: int, seed: int) -> np.ndarray:
    """``count`` uniformly random permutations of range(size), int64, shape (count, size).

    Built from raw bits of PCG64, because NumPy promises that stream to stay the same from
    release to release (NEP 19), and makes no such promise for ``Generator.permutation``.
    Two equal keys of 64 bits would keep their order: chance below 1e-9 up to 100,000 sequences.
    """
    keys = np.random.PCG64(seed).random_raw(count * size).reshape(count, size)
    return np.argsort(keys, axis=1, kind="stable")


def literal_draws(num_sequences: int, steps: int, global_batch_size: int, seed: int) -> np.ndarray:
    """Indices of the sequences that each step draws, int64, shape (steps, global_batch_size).

    The same arguments give the same draws on every machine. Raises UserError unless all three
    counts are above 0.
    """
    for name, value in (
        ("num_sequences", num_sequences),
        ("steps", steps),
        ("global_batch_size", global_batch_size),
    ):
        if value < 1:
            raise UserError(f"{name} is {value}", fix=f"give a {name} of at least 1")
    total = steps * global_batch_size
    epochs = -(-total // num_sequences)
    drawn = permutations(epochs, num_sequences, seed).ravel()[:total]
    return drawn.reshape(steps, global_batch_size)


def draw_counts(draws: np.ndarray, num_sequences: int) -> np.ndarray:
    """How often each step draws each sequence, int64, shape (steps, num_sequences).

    ``draws`` has shape (steps, global_batch_size). Each row of the result sums to the global
    batch size. Raises UserError when a draw is outside 0..num_sequences-1.
    """
    draws = np.asarray(draws)
    if draws.size and (draws.min() < 0 or draws.max() >= num_sequences):
        raise UserError(
            f"the draws reach from {draws.min()} to {draws.max()}, outside 0..{num_sequences - 1}",
            fix="count with the number of sequences that the draws were made for",
        )
    steps = draws.shape[0]
    places = draws + num_sequences * np.arange(steps)[:, None]
    return np.bincount(places.ravel(), minlength=steps * num_sequences).reshape(steps, num_sequences)
