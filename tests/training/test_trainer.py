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
    lora_config,
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


@pytest.mark.parametrize("precision, dtype", [("fp32", "float32"), ("bf16", "bfloat16"), ("fp32", "bfloat16")])
def test_a_kept_model_is_that_of_a_training_that_ends_there_and_keeping_changes_nothing(tmp_path, precision, dtype):
    """With a constant learning rate, to the bit."""
    base, changes = save_tiny(tmp_path / "base"), {"precision": precision, "export_dtype": dtype}
    plain = run(base, tmp_path / "plain", max_steps=5, **changes)
    kept = run(base, tmp_path / "kept", max_steps=5, keep_checkpoints=True, **changes)
    assert all(torch.equal(kept[name], tensor) for name, tensor in plain.items())
    folders = sorted(path.name for path in (tmp_path / "kept" / "checkpoints").iterdir())
    assert folders == ["step-2", "step-4"] and not (tmp_path / "plain" / "checkpoints").exists()
    for step in (2, 4):
        ended = run(base, tmp_path / f"ends{step}", max_steps=step, **changes)
        found = load_file(tmp_path / "kept" / "checkpoints" / f"step-{step}" / "model.safetensors")
        assert found.keys() == ended.keys() and all(torch.equal(found[n], t) for n, t in ended.items())
        assert {str(t.dtype) for t in found.values()} == {f"torch.{dtype}"}


def test_a_kept_model_of_adapters_is_merged(tmp_path):
    base, changes = save_tiny(tmp_path / "base"), {"lora": lora_config()}
    run(base, tmp_path / "kept", keep_checkpoints=True, **changes)
    ended = run(base, tmp_path / "ends", max_steps=2, **changes)
    found = load_file(tmp_path / "kept" / "checkpoints" / "step-2" / "model.safetensors")
    assert found.keys() == ended.keys() and all(torch.equal(found[n], t) for n, t in ended.items())


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_killed_training_keeps_the_same_models(tmp_path, monkeypatch, after):
    base, changes = save_tiny(tmp_path / "base"), {"keep_checkpoints": True, "save_interval_steps": 1}
    run(base, tmp_path / "whole", **changes)
    cut_short(monkeypatch, base, tmp_path / "cut", after, **changes)
    run(base, tmp_path / "cut", **changes)
    for step in (1, 2, 3):
        one, other = (
            load_file(tmp_path / name / "checkpoints" / f"step-{step}" / "model.safetensors") for name in ("whole", "cut")
        )
        assert all(torch.equal(one[name], tensor) for name, tensor in other.items())
