"""How much each sequence counts in NeMo-Aligner's loss, beside a mean over tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def aligner_token_weights(
    packs: Sequence[Sequence[int]], weights: Sequence[Sequence[int]], trained_tokens: Sequence[int]
) -> np.ndarray:
    """Weight of one trained token of each sequence in the loss of one step, shape (sequences,).

    NeMo 2.1 (``MegatronGPTModel.loss_func``) divides the weighted sum over a pack by the pack's
    sum of weights, and Aligner takes the mean over packs: so a token in a pack with few trained
    tokens counts more. packs, weights: of one step, as in :class:`StepPacks`. trained_tokens: of
    each sequence. The weights of all trained tokens together sum to 1.
    """
    tokens = np.asarray(trained_tokens, dtype=np.float64)
    result = np.zeros(len(tokens))
    for members, drawn in zip(packs, weights):
        share = np.asarray(drawn) / np.dot(drawn, tokens[members])
        np.add.at(result, np.asarray(members), share / len(packs))
    return result


def mean_token_weights(
    packs: Sequence[Sequence[int]], weights: Sequence[Sequence[int]], trained_tokens: Sequence[int]
) -> np.ndarray:
    """The same weights where the loss is one mean over all tokens drawn in the step, shape (sequences,)."""
    tokens = np.asarray(trained_tokens, dtype=np.float64)
    drawn = np.zeros(len(tokens))
    for members, counts in zip(packs, weights):
        np.add.at(drawn, np.asarray(members), counts)
    return drawn / np.dot(drawn, tokens)
