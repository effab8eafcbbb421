"""Batch plans: what a step computes, with which weights; literal and distinct mean the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from nemo_cot.packing.draws import draw_counts, literal_draws
from nemo_cot.training.local.batches import BatchPlan
from nemo_cot.training.local.objective import pack_scores, pack_tensors
from nemo_cot.training.local.optimizer import MasterAdamW
from nemo_cot.training.local.trainer import train_step
from tests.training.tiny_models import (
    assert_close,
    gradients,
    pack_config,
    random_sequences,
    tiny_model,
    train_config,
)

OBJECTIVES = ("token_mean", "sequence_mean")
BATCHINGS = ("literal", "distinct")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("batching", BATCHINGS)
def test_weights_of_a_step_sum_to_one(objective, batching):
    sequences = random_sequences()
    plan = BatchPlan(train_config(objective=objective, batching=batching), pack_config(), sequences)
    for step in range(4):
        total = sum(
            w * sequences[i].num_trained_tokens
            for p in plan.packs(step)
            for i, w in zip(p.sequences, p.weights)
        )
        assert total == pytest.approx(1.0, abs=1e-12)


def test_literal_computes_the_draws_and_distinct_each_drawn_trace_once():
    sequences = random_sequences()
    draws = literal_draws(len(sequences), 4, 8, seed=3)
    counts = draw_counts(draws, len(sequences))
    literal, distinct = (BatchPlan(train_config(batching=b), pack_config(), sequences) for b in BATCHINGS)
    for step in range(4):
        assert Counter(_members(literal, step)) == Counter(draws[step].tolist())
        assert sorted(_members(distinct, step)) == np.flatnonzero(counts[step]).tolist()
        weights = {i: w for p in distinct.packs(step) for i, w in zip(p.sequences, p.weights)}
        single = {i: w for p in literal.packs(step) for i, w in zip(p.sequences, p.weights)}
        for index, weight in weights.items():
            assert weight == pytest.approx(single[index] * counts[step][index])


def test_no_pack_is_above_the_capacity():
    sequences = random_sequences()
    plan = BatchPlan(train_config(batching="literal"), pack_config(40), sequences)
    for packed in plan.packs(0):
        assert sum(len(sequences[i].input_ids) for i in packed.sequences) <= 40


def test_sequence_mean_counts_sequences_and_token_mean_counts_tokens():
    sequences = random_sequences((5, 30))
    for objective, expected in (("sequence_mean", 0.5), ("token_mean", 4 / 24)):
        config = train_config(objective=objective, global_batch_size=2, batching="literal")
        plan = BatchPlan(config, pack_config(), sequences)
        share = {
            i: w * sequences[i].num_trained_tokens
            for p in plan.packs(0)
            for i, w in zip(p.sequences, p.weights)
        }
        assert share[0] == pytest.approx(expected)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_literal_equals_distinct_over_several_steps(objective):
    sequences = random_sequences()
    runs = [_run(train_config(objective=objective, batching=batching), sequences) for batching in BATCHINGS]
    (literal_rows, literal_gradients), (rows, distinct_gradients) = runs
    for one, other in zip(literal_rows, rows):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
        assert other.tokens < one.tokens
    for one, other in zip(literal_gradients, distinct_gradients):
        assert_close(other, one)


def _members(plan: BatchPlan, step: int) -> list[int]:
    return [i for packed in plan.packs(step) for i in packed.sequences]


def _run(config, sequences):
    """Rows of metrics and the gradients of each step.

    AdamW's eps is large: where a gradient is nothing but rounding, m / sqrt(v) would blow it up.
    """
    config.optim.eps = 1e-3
    model = tiny_model()
    optimizer, plan = MasterAdamW(model, config.optim), BatchPlan(config, pack_config(), sequences)
    rows, seen = [], []
    for step in range(config.max_steps):
        for packed in plan.packs(step):
            pack_scores(model, pack_tensors(packed, sequences, torch.device("cpu"))).loss.backward()
        seen.append(gradients(model))
        model.zero_grad(set_to_none=True)
        rows.append(train_step(model, optimizer, plan, sequences, config, step)[0])
    return rows, seen
