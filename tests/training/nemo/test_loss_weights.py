"""What a token weighs in Aligner's loss, against the arithmetic done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cot.training.nemo_aligner.loss_weights import aligner_token_weights, mean_token_weights


def test_a_token_alone_in_its_pack_weighs_more_than_in_the_mean_over_tokens():
    packs, weights, tokens = [[0, 1], [2]], [[1, 1], [1]], [30, 50, 20]
    assert aligner_token_weights(packs, weights, tokens) == pytest.approx([1 / 160, 1 / 160, 1 / 40])
    assert mean_token_weights(packs, weights, tokens) == pytest.approx([0.01] * 3)


def test_counts_weigh_as_repeats_do_in_the_mean_over_tokens():
    tokens = [30, 50, 20]
    literal = mean_token_weights([[0, 1], [0], [2], [0]], [[1, 1], [1], [1], [1]], tokens)
    assert mean_token_weights([[0, 1], [2]], [[3, 1], [1]], tokens) == pytest.approx(literal)
    assert np.dot(literal, tokens) == pytest.approx(1)


def test_equally_full_packs_weigh_all_tokens_alike():
    packs, weights, tokens = [[0, 1], [2, 3]], [[2, 1], [2, 1]], [10, 20, 10, 20]
    assert aligner_token_weights(packs, weights, tokens) == pytest.approx(
        mean_token_weights(packs, weights, tokens)
    )
