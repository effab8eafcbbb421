"""Adapters of the local trainer: what they change, what they leave, and what is exported."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nemo_cot.training.local.lora import add_adapters, merged
from nemo_cot.training.local.optimizer import MasterAdamW
from tests.training.test_trainer import cut_short, rows, run
from tests.training.tiny_models import lora_config, save_tiny, train_config

OF = {
    "attention_qkv": {"q_proj", "k_proj", "v_proj"}, "attention_dense": {"o_proj"},
    "mlp_fc1": {"gate_proj", "up_proj"}, "mlp_fc2": {"down_proj"},
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("lora") / "base", "qwen2")


@pytest.mark.parametrize("chosen", [["attention_qkv"], ["mlp_fc1", "attention_dense"], list(OF)])
def test_only_the_weights_of_the_chosen_modules_change(base, chosen, tmp_path):
    before = load_file(base / "model.safetensors")
    after = run(base, tmp_path / "run", lora=lora_config(target_modules=chosen), export_dtype="float32")
    assert before.keys() == after.keys()
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == set().union(*(OF[name] for name in chosen))


def test_the_difference_has_the_rank_of_the_adapters(base, tmp_path):
    before = load_file(base / "model.safetensors")
    after = run(base, tmp_path / "run", lora=lora_config(dim=3), export_dtype="float32")
    name = "model.layers.1.mlp.up_proj.weight"
    values = torch.linalg.svdvals((after[name] - before[name]).double())
    assert values[2] > 1e-3 * values[0] and values[3] < 1e-5 * values[0]


def test_the_exported_model_computes_what_the_adapted_one_did(base, tmp_path):
    """And what peft's own merging gives, from the same adapters."""
    lora = lora_config()
    model = add_adapters(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), lora, seed=5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(len(name)), std=0.1)
    masters = MasterAdamW(model, train_config().optim).masters
    exported = merged(base, masters, lora)
    ids = torch.arange(1, 40)[None]
    adapted = model(ids).logits
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert (plain(ids).logits - adapted).abs().max() > 0.1, "the adapters do something"
    plain.load_state_dict(exported.state_dict())
    torch.testing.assert_close(plain(ids).logits, adapted, rtol=1e-4, atol=1e-4)
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.merge()
    weights = {name.replace(".base_layer", ""): w for name, w in model.named_parameters() if "lora_" not in name}
    for name, weight in exported.named_parameters():
        torch.testing.assert_close(weight, weights[name])


@pytest.mark.parametrize("dropout, batching", [(0.0, "distinct"), (0.3, "literal")])
def test_a_resumed_run_is_the_same_to_the_bit(base, tmp_path, monkeypatch, dropout, batching):
    changes = {"lora": lora_config(dropout=dropout), "batching": batching, "precision": "bf16", "max_steps": 4}
    whole = run(base, tmp_path / "whole", **changes)
    cut_short(monkeypatch, base, tmp_path / "cut", 3, **changes)
    (state,) = (tmp_path / "cut" / "scratch" / "checkpoints").glob("*/state.safetensors")
    assert all("lora_" in name for name in load_file(state)), "a checkpoint holds the adapters alone"
    resumed = run(base, tmp_path / "cut", **changes)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_the_seed_draws_the_adapters_and_the_first_loss_is_the_models_own(base, tmp_path):
    """B is 0 at the start."""
    first = {}
    for name, seed, lora in (("a", 1, True), ("b", 1, True), ("c", 2, True), ("full", 1, False)):
        folder = tmp_path / name
        weights = run(base, folder, lora=lora_config(enabled=lora), seed=seed, max_steps=2)
        first[name] = (rows(folder)[0]["loss"], rows(folder)[1]["loss"], weights)
    assert first["a"][:2] == first["b"][:2]
    assert first["a"][0] == pytest.approx(first["full"][0], rel=1e-6)
    assert first["a"][1] != pytest.approx(first["full"][1], rel=1e-6)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(first["a"][2][name], first["c"][2][name])


@pytest.mark.parametrize("change", [{"batching": "literal"}, {"activation_checkpointing": True}])
def test_the_gradient_is_the_same_however_it_is_computed(base, change, tmp_path):
    losses = []
    for name, changes in (("plain", {}), ("changed", change)):
        run(base, tmp_path / name, lora=lora_config(), **changes)
        losses.append([(row["loss"], row["grad_norm"]) for row in rows(tmp_path / name)])
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
