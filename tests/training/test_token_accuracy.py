"""Token accuracy and the loss of each trace, against transformers' own logits of each sequence alone."""

from __future__ import annotations

import json

import pytest
import torch

from nemo_cot.training.local import objective
from nemo_cot.training.local.batches import BatchPlan
from nemo_cot.training.local.optimizer import MasterAdamW
from nemo_cot.training.local.trainer import train_step
from tests.training.test_trainer import cut_short, run
from tests.training.tiny_models import pack_config, random_sequences, save_tiny, tiny_model, train_config


def reference(model, sequence) -> tuple[float, float]:
    """Mean loss and accuracy over the trained tokens, from whole logits."""
    ids = torch.tensor([sequence.input_ids])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, sequence.num_prompt_tokens - 1 : -1].double()
    targets = ids[0, sequence.num_prompt_tokens :]
    losses = torch.nn.functional.cross_entropy(logits, targets)
    return float(losses), float((logits.argmax(-1) == targets).double().mean())


@pytest.fixture(scope="module")
def sequences():
    """Some of whose tokens the random model predicts: every second target is its own choice."""
    made, model = random_sequences(), tiny_model(attention="eager")
    for sequence in made:
        for place in range(sequence.num_prompt_tokens, len(sequence.input_ids), 2):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([sequence.input_ids[:place]])).logits
            sequence.input_ids[place] = int(logits[0, -1].argmax())
    return made


@pytest.mark.parametrize("objective_name", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("batching", ["literal", "distinct"])
def test_each_trace_has_its_own_loss_and_accuracy_and_the_step_their_weighted_mean(batching, objective_name, sequences, monkeypatch):
    monkeypatch.setattr(objective, "CHUNK_TOKENS", 5)
    config = train_config(batching=batching, objective=objective_name, global_batch_size=13)
    expected = [reference(tiny_model(attention="eager"), s) for s in sequences]
    assert all(accuracy > 0.2 for _, accuracy in expected) and any(accuracy < 0.9 for _, accuracy in expected)
    model = tiny_model()
    plan = BatchPlan(config, pack_config(), sequences)
    row, traces = train_step(model, MasterAdamW(model, config.optim), plan, sequences, config, 0)
    draws = plan.draws(0)
    assert sum(draws) == 13 and [t.draws for t in traces] == draws and [t.problem_id for t in traces] == list("01234")
    for trace, sequence, (loss, accuracy) in zip(traces, sequences, expected, strict=True):
        assert (trace.step, trace.tokens) == (1, sequence.num_trained_tokens)
        assert trace.loss == pytest.approx(loss, rel=1e-4) and trace.token_accuracy == pytest.approx(accuracy)
    shares = [d * (s.num_trained_tokens if objective_name == "token_mean" else 1) for d, s in zip(draws, sequences)]
    for found, which in ((row.loss, 0), (row.token_accuracy, 1)):
        mean = sum(share * one[which] for share, one in zip(shares, expected)) / sum(shares)
        assert found == pytest.approx(mean, rel=1e-4)


def test_a_trace_that_is_not_drawn_has_no_row(sequences):
    config = train_config(global_batch_size=2)
    model = tiny_model()
    plan = BatchPlan(config, pack_config(), sequences)
    _, traces = train_step(model, MasterAdamW(model, config.optim), plan, sequences, config, 0)
    assert len(traces) == 2 and {t.draws for t in traces} == {1}


def test_learning_by_heart_ends_in_an_accuracy_of_one(tmp_path):
    run(save_tiny(tmp_path / "base"), tmp_path / "run", max_steps=60, lr=3e-2)
    metrics, traces = (
        [json.loads(line) for line in (tmp_path / "run" / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "trace_losses.jsonl")
    )
    assert metrics[0]["token_accuracy"] < 0.1 and metrics[-1]["token_accuracy"] > 0.95
    losses = {step: [row["loss"] for row in traces if row["step"] == step] for step in (1, 60)}
    assert {row["step"] for row in traces} == set(range(1, 61)) and max(losses[60]) < min(losses[1])


def test_a_resumed_run_has_the_same_rows_per_trace(tmp_path, monkeypatch):
    base = save_tiny(tmp_path / "base")
    run(base, tmp_path / "whole", max_steps=6)
    cut_short(monkeypatch, base, tmp_path / "cut", 5, max_steps=6)
    path = tmp_path / "cut" / "trace_losses.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    run(base, tmp_path / "cut", max_steps=6)
    assert path.read_bytes() == (tmp_path / "whole" / "trace_losses.jsonl").read_bytes()
