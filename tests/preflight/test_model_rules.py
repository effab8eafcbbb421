"""The model that is trained is the one that is meant: its own files are compared with the config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.models.facts import context_tokens, read_config, shape_of
from nemo_cot.preflight import Finding, preflight
from nemo_cot.preflight.estimate import estimate
from nemo_cot.text import named_token

QWEN_14B = {
    "model_type": "qwen2", "num_hidden_layers": 48, "hidden_size": 5120, "intermediate_size": 13824,
    "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip


def write_model(folder: Path, eos: object = "<|endoftext|>", **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**QWEN_14B, **config}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos} if eos else {}))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


def found(rule: str, *overrides: str) -> Finding:
    cfg = load_config(overrides)
    folder = Path(cfg.model.path) if cfg.model.path else None
    (finding,) = [f for f in preflight(cfg, estimate(cfg, folder, 30), graph(cfg).kinds) if f.rule == rule]
    return finding


def test_another_model_than_the_one_that_is_planned_for_is_refused_with_every_key(tmp_path):
    error = found("model_shape", "model=qwen2.5_32b", f"model.path={write_model(tmp_path / 'm')}")
    assert error.level == "error"
    for part in (
        "model.shape.layers 64, num_hidden_layers 48",
        "model.shape.intermediate 27648, intermediate_size 13824",
    ):
        assert part in error.what
    assert "heads" not in error.what and "vocab" not in error.what
    assert found("model_shape", "model=qwen2.5_14b", f"model.path={tmp_path / 'm'}").level == "ok"


def test_what_a_config_json_does_not_name_is_not_compared(tmp_path):
    (tmp_path / "config.json").write_text('{"num_attention_heads": 40, "num_key_value_heads": null}')
    assert found("model_shape", "model=qwen2.5_14b", f"model.path={tmp_path}").level == "ok"


def test_a_directory_that_is_not_there_is_unknown_and_a_package_does_not_apply():
    for rule in ("model_shape", "model_eos"):
        gone = found(rule, "model=qwen2.5_32b", "model.path=/none")
        assert gone.level == "unknown" and "/none" in gone.what
        assert found(rule).level == "ok"


@pytest.mark.parametrize("eos", ["<|im_end|>", {"content": "<|im_end|>", "special": True}])
@pytest.mark.parametrize("train", ["local", "nemo_aligner"])
def test_an_instruct_model_s_eos_is_found_before_anything_runs(tmp_path, eos, train):
    model = [f"model.path={write_model(tmp_path / 'm', eos)}", f"train={train}"]
    error = found("model_eos", "model=qwen2.5_14b", *model)
    assert error.level == "error" and "<|im_end|>" in error.what and "tokenizer_config.json" in error.fix
    assert ("NeMo's loaders" in error.what) == (train == "nemo_aligner")


def test_the_base_model_s_eos_is_well_and_none_is_unknown(tmp_path):
    model = write_model(tmp_path / "m")
    assert found("model_eos", "model=qwen2.5_14b", f"model.path={model}").level == "ok"
    write_model(model, None)
    assert found("model_eos", "model=qwen2.5_14b", f"model.path={model}").level == "unknown"


def test_a_teacher_that_is_asked_by_chat_is_named():
    chat = ["teacher=model", "teacher.engine=nemo_skills", "teacher.engine.endpoint=chat"]
    error = found("teacher_path", *chat)
    assert error.level == "error" and "SmolLM2" in error.what and "teacher.path" in error.fix
    for others in (
        [*chat, "teacher.path=/models/QwQ"],
        [*chat, "teacher.engine.server.base_url=http://h:1/v1"],
        ["experiment=quickstart_self"],
        [],
    ):
        assert found("teacher_path", *others).level == "ok"


@pytest.mark.parametrize("config, tokens", [
    ({"max_position_embeddings": 8192}, 8192),
    ({}, None),
    ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2.0}}, 8192),
    ({"max_position_embeddings": 131072,
      "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}, 131072),
    ({"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 131072),
    ({"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 131072),
    ({"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, 4096),
    ({"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": None}}, 4096),
])  # fmt: skip
def test_the_context_is_derived_as_vllm_does(config, tokens):
    assert context_tokens(config) == tokens


@pytest.mark.parametrize("damage", [
    b"[1]", b"[" * 200_000, b"\xff", b'{"eos_token": 7}', b'{"eos_token": {"content": []}}', b'{"num_attention_heads": "8"}',
    b'{"max_position_embeddings": {}}', b'{"rope_scaling": [1]}', b'{"rope_parameters": "yarn"}',
], ids=lambda damage: repr(damage)[:40])  # fmt: skip
def test_files_of_a_model_that_hold_something_else_are_as_if_they_were_not_there(damage, tmp_path):
    """What checks the model says what is wrong with it; plan, status and report only look for figures."""
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes(damage)
    assert named_token(tmp_path, "eos_token") is None
    assert read_config(tmp_path) is None or b"eos_token" in damage


def test_a_shape_is_read_of_a_dense_model_alone():
    shape = shape_of(QWEN_14B)
    assert shape == load_config(["model=qwen2.5_14b", "model.path=/x"]).model.shape
    assert shape_of({**QWEN_14B, "num_experts": 8}) is None
    assert shape_of({"hidden_size": 8}) is None
