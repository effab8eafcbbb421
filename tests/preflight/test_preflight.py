"""Preflight: every rule fires on the config it is for, and stays quiet on the quickstart."""

import json
import os
import struct
from dataclasses import replace

import pytest

from nemo_cot.config.model import ModelShape
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.models.facts import ModelFacts, model_facts
from nemo_cot.preflight import preflight
from nemo_cot.preflight.estimate import estimate
from nemo_cot.preflight.rules import RULES
from nemo_cot.training.local.backend import train_bytes

SMOLLM2 = ModelShape(30, 576, 1536, 9, 3, 49152, qkv_bias=False, tied_embeddings=True)


def found(*overrides: str, **cost) -> dict[str, str]:
    """The level of each rule's first finding; ``cost`` is what training costs otherwise."""
    cfg = load_config(["experiment=quickstart", *overrides])
    base = estimate(cfg, None, 30)
    changed = replace(base, training=replace(base.training, **cost))
    levels: dict[str, str] = {}
    for finding in preflight(cfg, changed, graph(cfg).kinds):
        levels.setdefault(finding.rule, finding.level)
    return levels


def test_every_rule_reports_and_the_quickstart_has_no_error():
    levels = found()
    assert {rule.name for rule in RULES} <= set(levels)
    assert "error" not in levels.values() and "warning" not in levels.values()


@pytest.mark.parametrize(
    ("rule", "level", "overrides"),
    [
        ("enough_candidates", "error", ["curate.num_traces=61"]),
        ("trace_fits_pack", "warning", ["pack.capacity_tokens=100"]),
        ("answer_fits_sampling", "warning", ["evaluate.sampling.max_new_tokens=64"]),
        ("target_in_window", "warning", ["curate.target_tokens=500", "curate.order=target"]),
        ("target_in_window", "warning", ["curate.target_tokens=500", "curate.ties=[target]", "curate.order=longest"]),
        ("target_in_window", "ok", ["curate.target_tokens=500"]),
        ("eos_not_in_prompt", "error", ["model.eos_token='<|im_end|>'"]),
        ("batch_covers_traces", "warning", ["train.global_batch_size=4"]),
        ("literal_cost", "warning", ["train.batching=literal"]),
        ("warmup_share", "warning", ["train.max_steps=3", "train.optim.sched.warmup_steps=2"]),
        ("inputs_exist", "error", ["model=hf_directory", "model.path=/nowhere"]),
        (
            "inputs_exist",
            "error",
            ["problems=file", "problems.train_path=/nowhere", "problems.heldout_path=/nowhere"],
        ),
        ("inputs_exist", "error", ["teacher=file", "teacher.path=/nowhere"]),
        ("packages_installed", "error", ["model.package=no_such_package"]),
    ],
)
def test_a_rule_fires(rule, level, overrides):
    assert found(*overrides)[rule] == level


def test_what_no_stage_of_the_chain_is_about_is_not_asked():
    few = "launcher.stages=[problems,convert,evaluate,report]"
    for rule, override in (
        ("enough_candidates", "curate.num_traces=61"),
        ("literal_cost", "train.batching=literal"),
    ):
        assert found(override)[rule] != "ok"
        assert rule not in found(override, few)
    gone = ["model=hf_directory", "model.path=/nowhere", "launcher.stages=[train]"]
    assert found(*gone)["inputs_exist"] == "error", "training reads the model too"


def test_memory_and_disk_are_compared_with_the_machine():
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found(memory_bytes=machine + 1)["memory"] == "error"
    assert found(memory_bytes=machine // 2)["memory"] == "ok"
    assert found(disk={"train": 2**60})["disk"] == "error"


def test_every_finding_that_is_not_ok_names_a_fix():
    cfg = load_config(["experiment=quickstart", "curate.num_traces=61", "train.batching=literal"])
    assert all(f.fix for f in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds) if f.level in ("error", "warning"))


def test_literal_batching_is_estimated_at_the_whole_batch():
    distinct = estimate(load_config(["experiment=quickstart"]), None, 30)
    literal = estimate(load_config(["experiment=quickstart", "train.batching=literal"]), None, 30)
    assert literal.tokens_per_step * 20 == distinct.tokens_per_step * 1024


@pytest.mark.parametrize("order, length", [("shuffle", 2000), ("longest", 2000), ("target", 96)])
def test_traces_are_estimated_from_their_window_unless_an_order_goes_by_the_target(order, length):
    window = ["curate.min_tokens=1000", "curate.max_tokens=3000", "curate.target_tokens=96", f"curate.order={order}"]
    found = estimate(load_config([*window, "pack.capacity_tokens=4096"]), None, 30)
    assert found.tokens_per_step == 20 * (length + found.prompt_tokens)


def test_shape_is_read_out_of_config_and_headers(tmp_path):
    header = json.dumps(
        {
            "__metadata__": {},
            "a": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]},
            "b": {"dtype": "F32", "shape": [7], "data_offsets": [60, 88]},
        }
    ).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(88))
    config = {
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
        "vocab_size": 9,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = ModelShape(2, 8, 16, 4, 4, 9, qkv_bias=False, tied_embeddings=False)
    assert model_facts(tmp_path, None) == ModelFacts(tmp_path, config, shape, 22)
    for damaged in ("{", "[1]", "null"):
        (tmp_path / "config.json").write_text(damaged)
        assert model_facts(tmp_path, None) == ModelFacts(tmp_path, None, None, None)
        assert model_facts(tmp_path, SMOLLM2).parameters == 134_515_008, "as planned"


def test_memory_grows_with_the_pack_and_shrinks_with_activation_checkpointing():
    plain = load_config(["experiment=quickstart"])
    checkpointed = load_config(["experiment=quickstart", "train.activation_checkpointing=true"])
    assert train_bytes(SMOLLM2, SMOLLM2.parameters, plain.train, 4096) > train_bytes(SMOLLM2, SMOLLM2.parameters, plain.train, 1024)
    assert train_bytes(SMOLLM2, SMOLLM2.parameters, checkpointed.train, 4096) < train_bytes(SMOLLM2, SMOLLM2.parameters, plain.train, 4096)


def test_a_stage_asks_its_own_rules():
    cfg = load_config(["experiment=quickstart"])
    names = {f.rule for f in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds, stage="evaluate")}
    assert names == {"answer_fits_sampling", "packages_installed", "inputs_exist", "examples_fit"}


def test_rules_about_this_machine_say_nothing_for_another():
    cfg = load_config(["experiment=quickstart"])
    cost = estimate(cfg, None, 30)
    cost = replace(cost, training=replace(cost.training, memory_bytes=10**18))
    assert "error" in {f.level for f in preflight(cfg, cost, graph(cfg).kinds)}
    assert "error" not in {f.level for f in preflight(cfg, cost, graph(cfg).kinds, elsewhere=True)}


def test_the_papers_run_is_estimated_before_any_model_is_there():
    files = ["problems.train_path=a", "problems.heldout_path=b", "teacher.path=t", "model.path=m"]
    cost = estimate(load_config(["experiment=paper_main", *files]), None, 256)
    assert cost.model.parameters == pytest.approx(32.76e9, rel=1e-3)  # Qwen2.5-32B
    assert cost.training.operations == pytest.approx(6 * cost.model.parameters * cost.tokens_per_step * 50)
    seconds = (
        cost.training.operations * 4 / 3 / (0.4 * 989e12)
    )  # full activation checkpointing: the forward pass twice
    assert cost.training.gpu_hours == pytest.approx(seconds / 3600, rel=0.05), "the time model is near the usual share of the peak"
    assert cost.training.disk_bytes == cost.model.parameters * (6 + 14 * 2)  # the newest checkpoint, and the one that is written
    assert cost.sampled_tokens_at_most == 256 * 64 * 2 * 16384
    baseline = "evaluate.models.qwen_math_72b.path=q"
    only = estimate(load_config(["experiment=paper_baselines", *files[:2], files[3], baseline]), None, None)
    assert only.sampled_tokens_at_most is None


def test_nothing_advises_the_nemo_backends_to_batch_distinctly():
    of_the_machine = ("disk", "engine_programs")
    files = ["problems.train_path=a", "problems.heldout_path=b", "teacher.path=t", "model.path=m"]
    cfg = load_config(["experiment=paper_main", *files])
    assert "warning" not in {
        f.level for f in preflight(cfg, estimate(cfg, None, 256), graph(cfg).kinds) if f.rule not in of_the_machine
    }
