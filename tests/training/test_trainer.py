"""The train function from directory to directory: resume, export, refusals."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nemo_cot.errors import UserError
from nemo_cot.models.loading import resolve_device
from nemo_cot.training.local import trainer
from nemo_cot.training.local.checkpoint import latest_step, load_checkpoint, save_checkpoint
from nemo_cot.training.local.trainer import train
from tests.tiny import write_tiny_tokenizer
from tests.training.tiny_models import (
    KINDS,
    pack_config,
    random_sequences,
    save_tiny,
    tiny_model,
    train_config,
)


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def run(base, folder, **changes):
    folder.mkdir(exist_ok=True)
    train(base, random_sequences(), train_config(**changes), pack_config(), folder)
    return load_file(folder / "model" / "model.safetensors")


def cut_short(monkeypatch, base, folder, after, **changes):
    """Train until ``after`` steps are done, then die as a killed process does: without clean-up."""
    step = trainer.train_step

    def dying(*arguments):
        if arguments[-1] == after:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer, "train_step", dying)
        run(base, folder, **changes)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("after", [1, 2, 5])
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path, monkeypatch, precision, after):
    base = save_tiny(tmp_path / "base")
    changes = {"precision": precision, "max_steps": 6}
    whole = run(base, tmp_path / "whole", **changes)
    cut_short(monkeypatch, base, tmp_path / "cut", after, **changes)
    resumed = run(base, tmp_path / "cut", **changes)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    for one, other in zip(rows(tmp_path / "whole"), rows(tmp_path / "cut"), strict=True):
        assert [one[key] for key in ("step", "loss", "grad_norm", "lr")] == [
            other[key] for key in ("step", "loss", "grad_norm", "lr")
        ]


def test_the_checkpoint_holds_the_same_optimizer_state_after_a_resume(tmp_path, monkeypatch):
    base, states = save_tiny(tmp_path / "base"), []
    for name, dies in (("whole", False), ("cut", True)):
        if dies:
            cut_short(monkeypatch, base, tmp_path / name, 3, max_steps=6)
        run(base, tmp_path / name, max_steps=6)
        folder = tmp_path / name / "scratch" / "checkpoints"
        assert latest_step(folder) == 4
        assert [p.name for p in folder.iterdir()] == ["step-00000004"]
        states.append(load_checkpoint(folder, 4))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_damaged_checkpoint_is_named(tmp_path):
    save_checkpoint(tmp_path, 3, {"weight.a": torch.ones(64)})
    path = tmp_path / "step-00000003" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="damaged checkpoint") as caught:
        load_checkpoint(tmp_path, latest_step(tmp_path))
    assert str(path) in str(caught.value)


def test_a_half_written_checkpoint_is_not_used(tmp_path):
    save_checkpoint(tmp_path, 2, {"weight.a": torch.ones(4)})
    (tmp_path / "writing").mkdir()
    (tmp_path / "writing" / "state.safetensors").write_bytes(b"cut")
    assert latest_step(tmp_path) == 2
    save_checkpoint(tmp_path, 4, {"weight.a": torch.zeros(4)})
    assert torch.equal(load_checkpoint(tmp_path, latest_step(tmp_path))["weight.a"], torch.zeros(4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_export_loads_in_transformers(tmp_path, kind, dtype):
    base = save_tiny(tmp_path / "base", kind)
    run(base, tmp_path / "out", precision="bf16", export_dtype=dtype, max_steps=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model", local_files_only=True)
    assert {weight.dtype for weight in model.parameters()} == {getattr(torch, dtype)}
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == (kind == "llama_tied")
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_the_float32_export_keeps_the_masters_below_bfloat16(tmp_path):
    base = save_tiny(tmp_path / "base")
    exported = run(base, tmp_path / "out", precision="bf16", lr=1e-5)
    assert any(not torch.equal(w, w.to(torch.bfloat16).float()) for w in exported.values())


def test_the_loss_falls(tmp_path):
    run(save_tiny(tmp_path / "base"), tmp_path / "out", max_steps=25, lr=3e-3, save_interval_steps=50)
    losses = [row["loss"] for row in rows(tmp_path / "out")]
    assert losses[-1] < 0.7 * losses[0]


def test_dropout_with_distinct_batching_is_refused(tmp_path):
    base = save_tiny(tmp_path / "base", attention_dropout=0.1)
    with pytest.raises(UserError, match=r"attention_dropout=0\.1") as caught:
        run(base, tmp_path / "out", batching="distinct")
    assert "train.batching=literal" in str(caught.value)
    run(base, tmp_path / "out", batching="literal", max_steps=1)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    model = tiny_model(attention="sdpa")
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    model.save_pretrained(tmp_path / "base")
    write_tiny_tokenizer(tmp_path / "base")
    with pytest.raises(UserError, match="loss nan") as caught:
        run(tmp_path / "base", tmp_path / "out")
    assert "step 1" in str(caught.value)
    assert rows(tmp_path / "out") == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused(tmp_path):
    with pytest.raises(UserError, match="no CUDA GPU"):
        run(save_tiny(tmp_path / "base"), tmp_path / "out", device="cuda")
    assert resolve_device("auto").type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_like_the_cpu(tmp_path):
    base = save_tiny(tmp_path / "base")
    for device in ("cpu", "cuda"):
        run(base, tmp_path / device, device=device)
    for one, other in zip(rows(tmp_path / "cpu"), rows(tmp_path / "cuda"), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
