"""Preflight of the engines over a server: each rule fires on the config it is for, and is quiet on the paper's."""

from __future__ import annotations

import json

import pytest

from nemo_cot.preflight import preflight
from nemo_cot.preflight.engine_rules import ENGINE_RULES
from nemo_cot.preflight.engine_uses import engine_uses
from nemo_cot.preflight.estimate import estimate
from recipes.config import load_config

PAPER = ["problems.train_path=/none", "problems.heldout_path=/none", "model.path=/none"]
MAIN = ["experiment=paper_main", *PAPER, "teacher.path=/none"]
BASELINES = ["experiment=paper_baselines", *PAPER, "evaluate.models.qwen_math_72b.path=/none"]
SERVED = "evaluate.engine.server"

pytestmark = pytest.mark.usefixtures("large_disk")


def found(*overrides: str) -> dict[str, list]:
    """Errors and warnings, by rule."""
    cfg = load_config(overrides)
    rules: dict[str, list] = {}
    for finding in preflight(cfg, estimate(cfg, None, 30)):
        rules.setdefault(finding.rule, [])
        if finding.level in ("error", "warning"):
            assert finding.fix
            rules[finding.rule].append(finding)
    return rules


@pytest.mark.parametrize("experiment", [MAIN, BASELINES])
def test_the_papers_experiments_miss_nothing_but_their_files(experiment):
    rules = found(*experiment)
    errors = {name for name, findings in rules.items() if any(f.level == "error" for f in findings)}
    assert errors == {"inputs_exist"}
    told = " ".join(f.what + f.fix for f in rules["inputs_exist"])
    assert (
        "problems.heldout_path" in told
        and "keys problem and expected_answer" in told
        and "model.path" in told
    )


def test_rules_do_not_apply_without_a_server():
    names = {rule.__name__.strip("_") for rule in ENGINE_RULES}
    rules = found("experiment=quickstart")
    assert names <= rules.keys() and not any(rules[name] for name in names)


@pytest.mark.parametrize("rule, level, overrides", [
    ("engine_length", "error", [*MAIN, "evaluate.sampling.max_new_tokens=20480"]),
    ("engine_length", "error", [*MAIN, "teacher.sampling.max_new_tokens=20480"]),
    ("engine_length", "error", [*BASELINES, "evaluate.models.qwen_math_72b.max_new_tokens=4096"]),
    ("engine_heads", "error", [*MAIN, f"{SERVED}.num_gpus=7"]),
    ("engine_heads", "error", [*MAIN, f"{SERVED}.num_gpus=3"]),
    ("engine_nodes", "error", [*MAIN, f"{SERVED}.num_nodes=2", f"{SERVED}.num_gpus=4"]),
    ("engine_model_name", "warning", [*MAIN, f"{SERVED}.base_url=http://h:1/v1", "evaluate.subjects=[base]"]),
    ("engine_model_name", "error", [*MAIN, f"{SERVED}.base_url=http://h:1/v1", f"{SERVED}.model_name=x"]),
    ("engine_programs", "warning", [*MAIN, "evaluate.engine.python=/no/such/python"]),
    ("engine_dialect", "error", ["evaluate.engine=openai", "evaluate.sampling.top_k=5"]),
    ("engine_grading", "warning", [*MAIN, "evaluate.engine.eval_type=math"]),
    ("chunks_apply", "error", ["teacher=file", "teacher.path=/none", "generate.chunks=2"]),
])  # fmt: skip
def test_a_rule_fires(rule, level, overrides):
    assert level in {finding.level for finding in found(*overrides)[rule]}


@pytest.mark.parametrize("gpus, fits", [(1, True), (2, True), (4, True), (8, True), (3, False), (16, False)])
def test_heads_are_read_from_the_models_own_config(gpus, fits, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 24, "num_key_value_heads": 4}))
    rules = found(
        "model=hf_directory",
        f"model.path={tmp_path}",
        "evaluate.engine=nemo_skills",
        f"{SERVED}.num_gpus={gpus}",
    )
    assert (not rules["engine_heads"]) == fits


def test_each_subject_is_looked_at_with_its_own_limits():
    uses = {use.label: use for use in engine_uses(load_config(BASELINES))}
    assert uses.keys() == {"base", "qwen_math_72b"}
    other = uses["qwen_math_72b"]
    assert (other.sampling.max_new_tokens, other.engine.server.max_model_len) == (3072, 4096)
    assert uses["base"].engine.server.max_model_len == 20480


def test_a_login_node_needs_no_torch_for_the_papers_run(monkeypatch):
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *a: None if name in ("torch", "transformers") else real(name, *a),
    )
    assert not found(*MAIN)["packages_installed"]
    assert found("experiment=quickstart")["packages_installed"]
