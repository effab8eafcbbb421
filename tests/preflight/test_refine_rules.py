"""Preflight of refine: its engines, models, GPUs and packages are examined as those of generate are."""

from __future__ import annotations

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.preflight import Finding, preflight
from nemo_cot.preflight.engine_uses import engine_uses
from nemo_cot.preflight.estimate import estimate

PASSES = "refine.passes=[{prompt: self_checks}, {prompt: paraphrase, path: /none/editor}]"
QUICK = ["experiment=quickstart", PASSES]
SERVER = ["refine.engine=openai", "refine.engine.server.num_gpus=8"]
CLUSTER = ["cluster=slurm_8xh100", "cluster.container.image=/x.sqsh"]

pytestmark = pytest.mark.usefixtures("large_disk")


def found(rule: str, *overrides: str, elsewhere: bool = False) -> list[Finding]:
    """What ``rule`` has to say, but that all is well."""
    cfg = load_config(overrides)
    findings = preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds, elsewhere=elsewhere)
    assert any(f.rule == rule for f in findings)
    return [f for f in findings if f.rule == rule and f.level in ("error", "warning")]


def test_each_pass_is_a_use_of_its_engine():
    uses = [use for use in engine_uses(load_config(QUICK)) if use.key == "refine"]
    assert [(use.label, use.path) for use in uses] == [("1-self_checks", None), ("2-paraphrase", "/none/editor")]
    assert not any(use.key == "refine" for use in engine_uses(load_config(["experiment=quickstart"])))


def test_its_model_must_be_there():
    (error,) = found("inputs_exist", *QUICK)
    assert error.level == "error" and "refine.passes[1].path" in error.what and "/none/editor" in error.what


def test_prompt_trace_and_answer_fit_the_servers_context():
    fits = [*QUICK, *SERVER, "refine.sampling.max_new_tokens=500"]
    (error, *_) = found("engine_length", *fits, "refine.engine.server.max_model_len=600")
    assert "max_model_len 600" in error.what and "refine.engine.server.max_model_len" in error.fix
    assert not found("engine_length", *fits, "refine.engine.server.max_model_len=1000")
    (error, *_) = found("engine_length", *fits, "refine.engine.server.max_model_len=1000", "curate.max_tokens=600")
    assert "max_model_len 1000" in error.what, "a trace is in the prompt"


def test_one_endpoint_may_serve_several_passes():
    endpoint = ["refine.engine=openai", "refine.engine.server.base_url=http://127.0.0.1:1/v1",
                "refine.engine.server.model_name=m"]  # fmt: skip
    assert not found("engine_model_name", *QUICK, *endpoint)


def test_its_job_has_the_gpus_of_its_server():
    with_none = found("cluster_gpus", *QUICK, *SERVER, *CLUSTER, "cluster.resources.generate.gpus_per_node=0", elsewhere=True)
    (error,) = [f for f in with_none if f.level == "error"]
    assert error.what.startswith("refine: a server over 8 GPUs in a job of 0")
    assert "cluster.resources.generate.gpus_per_node" in error.fix and "refine.engine.server.num_gpus" in error.fix
    with_all = found("cluster_gpus", *QUICK, *SERVER, *CLUSTER, elsewhere=True)
    assert not any("generate" in f.what or "refine" in f.what for f in with_all), "the kind serves both stages"
    idle = found("cluster_gpus", "experiment=quickstart", *CLUSTER, elsewhere=True)
    assert any(f.what.startswith("generate uses no GPUs") for f in idle)


def test_its_embedded_engine_needs_a_python_with_torch():
    (error,) = found("cluster_torch", *QUICK, *CLUSTER, "launcher.stages=[refine]", elsewhere=True)
    assert error.what.startswith("refine: ") and "cluster.resources.generate.python" in error.fix


def test_the_server_of_every_pass_has_its_gpus_not_the_first_ones_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("NEMO_COT_CONFIG_DIR", str(tmp_path))
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - quickstart\n  - /engine@refine.engines.large: openai\n  - _self_\nrefine:\n"
        "  passes: [{prompt: self_checks}, {prompt: paraphrase, engine: large}]\n"
        "  engines: {large: {server: {num_gpus: 64}}}\n"
    )
    errors = [f for f in found("cluster_gpus", "experiment=mine", "refine.engine=openai", *CLUSTER, elsewhere=True) if f.level == "error"]
    assert ["refine.engines.large.server.num_gpus" in error.fix for error in errors] == [True]
