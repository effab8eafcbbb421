"""train.overrides: any key of a backend, laid over what is rendered; a misspelt one is found."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.config.checks import fingerprinted
from nemo_cot.config.overrides import flat
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import compose_config, load_config, to_yaml
from nemo_cot.training.backend import backend_of
from nemo_cot.training.nemo.rendered import overridden
from nemo_cot.training.nemo.rules import nemo_overrides
from tests.training.nemo.test_render import CASES, render

BASE = {
    "nemo_aligner": ["train=nemo_aligner", "model=qwen2.5_7b", "model.path=/m", "train/layout=qwen2.5_7b"],
    "nemo_rl": ["train=nemo_rl", "model=qwen2.5_7b", "model.path=/m", "train/layout=qwen2.5_7b"],
}


def found(backend: str, *overrides: str):
    cfg = load_config([*BASE[backend], *overrides])
    return list(nemo_overrides.check(cfg, cfg.train, None))


@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize(
    ("backend", "key", "value"),
    [("nemo_aligner", "model.apply_rope_fusion", True), ("nemo_aligner", "exp_manager.log_step_timing", True),
     ("nemo_rl", "policy.megatron_cfg.attention_backend", "flash"),
     ("nemo_rl", "policy.megatron_cfg.env_vars.NCCL_DEBUG", "INFO")],
)  # fmt: skip
def test_a_key_that_we_have_not_foreseen_reaches_the_backend(backend, key, value, plus):
    override = f"{plus}train.overrides.{key}={str(value).lower() if value is True else value}"
    node = render(backend, "qwen2.5_7b", [override])
    for part in key.split("."):
        node = node[part]
    assert node == value
    assert [level for level, *_ in found(backend, override)] == ["ok"]
    shown = yaml.safe_load(to_yaml(compose_config([*BASE[backend], override])))
    assert flat(shown["train"]["overrides"]) == {key: value}


def test_it_is_part_of_the_fingerprint_only_where_it_is_used_and_however_it_is_written():
    plain = load_config(BASE["nemo_aligner"]).train
    assert "overrides" not in fingerprinted(plain), "a stage that finished before the key came stays valid"
    nested = load_config([*BASE["nemo_aligner"], "+train.overrides.model.fp8=true"]).train
    dotted = load_config([*BASE["nemo_aligner"], "train.overrides={model.fp8:true}"]).train
    assert fingerprinted(nested) == fingerprinted(dotted) != fingerprinted(plain)


@pytest.mark.parametrize(
    ("backend", "key", "near"),
    [("nemo_aligner", "model.aply_rope_fusion", "model.apply_rope_fusion"),
     ("nemo_aligner", "apply_rope_fusion", "model.apply_rope_fusion"),
     ("nemo_rl", "policy.megatron_cfg.optimiser.lr", "policy.megatron_cfg.optimizer.lr"),
     ("nemo_rl", "policy.megatron_cfg.use_fused_linear_logprobs", None)],
)  # fmt: skip
def test_a_misspelt_key_is_found(backend, key, near):
    ((level, what, fix),) = found(backend, f"train.overrides.{key}=1")
    assert key in what
    assert (level, f"did you mean {near}?" in fix) == (("error", True) if near else ("warning", False))
    assert f"+{key}" in fix


def test_a_key_that_is_meant_all_the_same_is_taken(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [quickstart, _self_]\n"
        "train: {overrides: {'+model.aply_rope_fusion': true, model: {fp8: true}}}\n"
    )
    cfg = load_config([f"experiment={tmp_path / 'mine.yaml'}", *BASE["nemo_aligner"]])
    ((level, what, _),) = nemo_overrides.check(cfg, cfg.train, None)
    assert level == "ok" and "model.aply_rope_fusion=True" in what and "model.fp8=True" in what
    assert overridden({}, cfg.train.overrides) == {"model": {"aply_rope_fusion": True, "fp8": True}}


@pytest.mark.parametrize(
    ("backend", "key", "our"),
    [("nemo_aligner", "model.tensor_model_parallel_size", "train.layout.tensor_model_parallel_size"),
     ("nemo_aligner", "model.optim.sched.constant_steps", "train.optim"),
     ("nemo_aligner", "model.data.train_ds.add_eos", "pack"),
     ("nemo_rl", "policy.megatron_cfg.optimizer.optimizer_cpu_offload", "train.optimizer_cpu_offload"),
     ("nemo_rl", "data.shuffle", "pack")],
)  # fmt: skip
def test_a_key_that_rules_go_by_is_warned_about(backend, key, our):
    ((level, what, fix),) = found(backend, f"train.overrides.{key}=4")
    assert level == "warning" and f"go by {our}," in what and fix == f"set {our}"


@pytest.mark.parametrize("name", CASES)
def test_every_key_that_we_render_is_in_the_backend_s_list(name):
    """NeMo-RL's is that of v0.7.0, the image's: a key of another release would be passed over without a word."""
    backend, model, overrides = CASES[name]
    keys = backend_of(load_config([f"train={backend}"]).train).keys
    unknown = [key for key in flat(render(backend, model, overrides)) if not keys.has(key)]
    assert unknown == []


@pytest.mark.parametrize("backend", BASE)
def test_every_key_that_rules_go_by_is_one_that_we_render(backend):
    rendered = flat(render(backend, "qwen2.5_7b"))
    keys = backend_of(load_config([f"train={backend}"]).train).keys
    for key in keys.ours:
        assert any(name == key or name.startswith(f"{key}.") for name in rendered) or keys.has(key), key


def test_a_key_below_a_value_is_refused():
    with pytest.raises(UserError, match=r"model\.seed holds 1234, and no keys"):
        render("nemo_aligner", "qwen2.5_7b", ["train.overrides.model.seed.low=1"])


names = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(
    st.integers(), lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3), max_leaves=8
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, trees, max_size=3))
def test_what_is_laid_over_nothing_is_itself_and_flat_twice_is_flat_once(tree):
    once = flat(tree)
    assert flat(once) == once and overridden({}, once) == tree
