"""The layout of conf/ that is for the model: named where another is configured and does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_cot.experiment.compose import CONF, load_config
from nemo_cot.experiment.examine import examine
from nemo_cot.experiment.graph import whole_graph
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.preflight import Finding
from nemo_cot.training.nemo.layouts import presets

NAMES = sorted(path.stem for path in (CONF / "train" / "layout").glob("*.yaml"))


def found(model: str, *overrides: str) -> dict[str, Finding]:
    """Errors and warnings by rule, of ``model`` under train=nemo_aligner with its own layout for 32B."""
    given = [f"model={model}", "model.path=/none", "train=nemo_aligner", "pack.capacity_tokens=16384"]
    cfg = load_config([*given, *overrides])
    _, findings = examine(cfg, run_directory(cfg), whole_graph(cfg), elsewhere=True)
    return {f.rule: f for f in findings if f.level in ("error", "warning")}


def test_every_layout_is_known_with_its_model():
    assert [preset.name for preset in presets()] == NAMES


def test_a_model_that_does_not_fit_another_s_layout_is_told_its_own():
    assert "set train/layout=llama3_70b, or " in found("llama3_70b")["nemo_gpu_memory"].fix
    assert "set train/layout=qwen2.5_7b, or " in found("qwen2.5_7b")["nemo_heads"].fix


def test_what_is_not_about_the_layout_does_not_name_one():
    assert "train/layout" not in found("llama3_70b")["inputs_exist"].fix


@pytest.mark.parametrize("model", ["qwen2.5_14b", "mistral_7b"])
def test_a_smaller_layout_that_the_model_has_is_told(model):
    warning = found(model)["layout_size"]
    assert warning.level == "warning" and f"train/layout={model}" in warning.fix
    assert "2 nodes" in warning.what and "fits 1" in warning.what


@pytest.mark.parametrize("model", NAMES)
def test_the_model_s_own_layout_is_quiet(model):
    rules = found(model, f"train/layout={model}")
    assert "layout_size" not in rules and not [f for f in rules.values() if "train/layout=" in f.fix]


def test_a_model_of_one_s_own_is_known_by_its_config_json(tmp_path: Path):
    config = {
        "model_type": "qwen2", "num_hidden_layers": 48, "hidden_size": 5120, "intermediate_size": 13824,
        "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    own = [f"model.path={tmp_path}", "train/layout=qwen2.5_32b"]
    assert "train/layout=qwen2.5_14b" in found("hf_directory", *own)["layout_size"].fix
    cfg = load_config(["model=hf_directory", "train=nemo_aligner", *own])
    cost, _ = examine(cfg, run_directory(cfg), whole_graph(cfg))
    assert cost.training.memory_bytes and cost.model.parameters == 14_770_033_664


def test_adapters_are_advised_only_where_they_are_converted():
    """Following the advice leads to a config that passes, and not round in a circle."""
    one = ["train/layout=qwen2.5_32b", "train.layout.num_nodes=1"]
    fix = found("qwen2.5_32b", *one)["nemo_gpu_memory"].fix
    assert "train=nemo_rl train.lora.enabled=true" in fix
    header = (CONF / "train/layout/qwen2.5_32b.yaml").read_text()
    for text in (fix, header):
        assert "train=nemo_rl" in text
    followed = [*one, "train=nemo_rl", "train.lora.enabled=true"]
    rules = found("qwen2.5_32b", *followed)
    assert not {rule for rule in rules if rule.startswith("nemo_") and rules[rule].level == "error"}
