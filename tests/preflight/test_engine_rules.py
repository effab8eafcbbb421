"""Preflight of the engines over a server: each rule fires on the config it is for, and is quiet on the paper's."""

from __future__ import annotations

import json

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.preflight import preflight
from nemo_cot.preflight.engine_rules import SERVER_RULES
from nemo_cot.preflight.engine_uses import engine_uses
from nemo_cot.preflight.estimate import estimate

PAPER = ["problems.train_path=/none", "problems.heldout_path=/none", "model.path=/none"]
MAIN = ["experiment=paper_main", *PAPER, "teacher.path=/none"]
BASELINES = ["experiment=paper_baselines", *PAPER, "evaluate.models.qwen_math_72b.path=/none"]
SERVED = "evaluate.engine.server"

pytestmark = pytest.mark.usefixtures("large_disk")


def found(*overrides: str) -> dict[str, list]:
    """Errors and warnings, by rule."""
    cfg = load_config(overrides)
    rules: dict[str, list] = {}
    for finding in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds):
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
    assert "problems.heldout_path" in told
    assert "keys problem and expected_answer" in told
    assert "model.path" in told


def test_the_rules_are_not_there_without_a_server():
    names = {rule.name for rule in SERVER_RULES}
    assert names.isdisjoint(found("experiment=quickstart")) and names <= found(*MAIN).keys()


@pytest.mark.parametrize("rule, level, overrides", [
    ("engine_length", "error", [*MAIN, "evaluate.sampling.max_new_tokens=20480"]),
    ("engine_length", "error", [*MAIN, "teacher.sampling.max_new_tokens=20480"]),
    ("engine_length", "error", [*BASELINES, "evaluate.models.qwen_math_72b.max_new_tokens=4096"]),
    ("engine_heads", "error", [*MAIN, f"{SERVED}.num_gpus=7"]),
    ("engine_heads", "error", [*MAIN, f"{SERVED}.num_gpus=3"]),
    ("engine_heads", "error", ["evaluate.engine=nemo_skills"]),  # 9 heads
    ("engine_seeds", "error", [*MAIN, "evaluate.engine.dialect=openai"]),
    ("engine_memory", "error", [*MAIN, "cluster=slurm_8xh100", "model=llama3_70b", f"{SERVED}.data_parallel_size=8",
                                f"{SERVED}.max_model_len=8192"]),
    ("engine_memory", "error", [*MAIN, "cluster=slurm_8xh100", f"{SERVED}.data_parallel_size=8",
                                f"{SERVED}.max_model_len=65536"]),
    ("engine_nodes", "error", [*MAIN, f"{SERVED}.num_nodes=2", f"{SERVED}.num_gpus=4"]),
    ("engine_model_name", "warning", [*MAIN, f"{SERVED}.base_url=http://h:1/v1", "evaluate.subjects=[base]"]),
    ("engine_model_name", "error", [*MAIN, f"{SERVED}.base_url=http://h:1/v1", f"{SERVED}.model_name=x"]),
    ("engine_programs", "warning", [*MAIN, "evaluate.engine.python=/no/such/python"]),
    ("engine_dialect", "error", ["evaluate.engine=openai", "evaluate.sampling.top_k=5"]),
    ("engine_grading", "warning", [*MAIN, "evaluate.engine.eval_type=math"]),
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


@pytest.mark.parametrize("gpu, copies, fits", [("h100", 8, False), ("h200", 8, True), ("h100", 4, True), ("a100", 4, True)])
def test_copies_fit_by_the_gpus_of_the_cluster(gpu, copies, fits):
    given = ["cluster=slurm_8xh100", f"cluster.gpu_type={gpu}", f"{SERVED}.max_model_len=40960"]
    found_here = found(*MAIN, *given, f"{SERVED}.data_parallel_size={copies}")["engine_memory"]
    assert ("error" not in {finding.level for finding in found_here}) == fits


def test_copies_share_the_gpus_and_each_divides_the_heads():
    for copies, size in ((1, 8), (2, 4), (8, 1)):
        server = load_config([*MAIN, f"{SERVED}.data_parallel_size={copies}"]).evaluate.engine.client.server
        assert server.tensor_parallel_size == size
    with pytest.raises(UserError, match="3 copies of the model do not share 8 GPUs"):
        load_config([*MAIN, f"{SERVED}.data_parallel_size=3"])


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


LLAMA = [*MAIN, "model=llama3_70b", "train/layout=llama3_70b"]


def every(rule: str, *overrides: str) -> list:
    cfg = load_config(overrides)
    return [f for f in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds) if f.rule == rule]


def test_a_server_with_more_context_than_the_model_has_is_refused():
    (error,) = found(*LLAMA)["engine_length"]
    assert "base, trained: max_model_len 20480" in error.what and "8192 positions" in error.what
    assert "evaluate.engine.server.max_model_len=8192" in error.fix
    assert "evaluate.sampling.max_new_tokens to 81" in error.fix
    mended = [f"{SERVED}.max_model_len=8192", "evaluate.sampling.max_new_tokens=8000"]
    assert not found(*LLAMA, *mended)["engine_length"]
    (error,) = found(*LLAMA, f"{SERVED}.max_model_len=null")["engine_length"]
    assert "16384 new ones exceeds the 8192 positions" in error.what


def test_a_models_own_config_json_decides_its_context(tmp_path):
    config = {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 8.0}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not found(*LLAMA, f"model.path={tmp_path}")["engine_length"]
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}))
    other = [*BASELINES, f"evaluate.models.qwen_math_72b.path={tmp_path}"]
    assert not found(*other)["engine_length"]
    (error,) = found(*other, "evaluate.models.qwen_math_72b.max_model_len=8192")["engine_length"]
    assert "evaluate.models.qwen_math_72b.max_model_len=4096" in error.fix


def test_a_model_that_is_not_here_is_unknown():
    for rule in ("engine_length", "engine_heads"):
        (unknown,) = every(rule, *MAIN)
        assert unknown.level == "unknown" and "teacher: " in unknown.what and "/none" in unknown.what


def write_python(path, answer):
    path.write_text(f"#!/bin/sh\n{answer}\n")
    path.chmod(0o755)
    return path


def test_interpreters_are_asked_for_nemo_skills(tmp_path):
    has, lacks = (
        write_python(tmp_path / "has", "echo noise; echo True"),
        write_python(tmp_path / "no", "echo False"),
    )
    silent = write_python(tmp_path / "silent", "exit 1")
    for python, level in ((has, "ok"), (lacks, "warning"), (silent, "unknown"), ("/no/such", "warning")):
        named = [f"evaluate.engine.python={python}", f"{SERVED}.python={python}"]
        (said,) = every("engine_programs", "evaluate.engine=nemo_skills", *named)
        assert said.level == level
        if level == "warning":
            assert "base, trained: " in said.what
            assert "evaluate.engine.python and evaluate.engine.server.python" in said.fix
    (said,) = every("engine_programs", "evaluate.engine=openai", f"{SERVED}.command=[/no/such]")
    assert "evaluate.engine.server.command" in said.fix
