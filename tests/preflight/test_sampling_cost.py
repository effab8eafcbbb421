"""What sampling costs: tokens at most, GPU-hours by the simulation, and the job's time limit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.preflight import preflight
from nemo_cot.preflight.estimate import estimate
from nemo_cot.stages import RunDirectory
from nemo_cot.training.nemo.memory import adapter_parameters

PAPER = ["problems.train_path=/none", "problems.heldout_path=/none", "model.path=/none"]
MAIN = ["experiment=paper_main", *PAPER, "teacher.path=/none"]
BASELINES = ["experiment=paper_baselines", *PAPER, "evaluate.models.qwen_math_72b.path=/none"]
QWEN_32B = load_config(["model=qwen2.5_32b", "model.path=/x"]).model.shape


def costs(*overrides: str) -> dict:
    cost = estimate(load_config(overrides), None, 256, num_train=50)
    return {sampled.use.label: sampled for sampled in cost.sampling}


def test_generation_is_counted_and_each_subject_by_its_own_limit():
    assert costs(*MAIN)["teacher"].tokens_at_most == 50 * 512 * 16384
    found = costs(*BASELINES)
    assert found["base"].tokens_at_most == 256 * 64 * 16384
    assert found["qwen_math_72b"].tokens_at_most == 256 * 64 * 3072
    total = estimate(load_config(BASELINES), None, 256).sampled_tokens_at_most
    assert total == 256 * 64 * (16384 + 3072)


def test_hours_are_given_where_model_and_machine_are_known_and_else_why_not(tmp_path: Path):
    found = costs(*MAIN)
    hours = found["base"].hours
    assert 22 < hours.gpu_hours.middle < 29 and hours.gpu_hours.low < hours.gpu_hours.middle < hours.gpu_hours.high
    assert "7,680 tokens (evaluate.sampling.expected_tokens)" in hours.assumed
    assert found["trained"].hours.sampled is hours.sampled, "simulated once"
    assert isinstance(found["teacher"].hours, str) and "config.json of /none" in found["teacher"].hours
    shape = {
        "model_type": "qwen2", "num_hidden_layers": 64, "hidden_size": 5120, "intermediate_size": 27648,
        "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(shape))
    known = costs(*MAIN, f"teacher.path={tmp_path}")["teacher"]
    assert 12 < known.hours.gpu_hours.middle < 18
    for overrides, why in [
        (["experiment=quickstart"], "embedded"),
        ([*MAIN, "evaluate.engine.server.base_url=http://h:1/v1"], "server that is there"),
        ([*MAIN, "model=llama3_70b", "evaluate.engine.server.data_parallel_size=8"], "do not fit 1 GPU"),
    ]:
        assert why in costs(*overrides)["base"].hours


def test_lengths_that_are_not_known_make_the_range_wide():
    wide = costs(*MAIN, "evaluate.sampling.expected_tokens=null")["base"].hours
    assert "is null" in wide.assumed and wide.gpu_hours.high > 5 * wide.gpu_hours.low
    slow = costs(*MAIN, "evaluate.sampling.seeded=true")["base"].hours
    assert 1.15 < slow.gpu_hours.middle / costs(*MAIN)["base"].hours.gpu_hours.middle < 1.5


def test_the_lengths_of_answers_that_were_drawn_before_are_counted(tmp_path: Path):
    cfg, run = load_config(MAIN), RunDirectory(tmp_path / "run")
    place = run.stage("evaluate/base")
    place.mkdir(parents=True)
    for text, mean in (("", 7680), ("not a row\n", 7680), ('{"num_generated_tokens": 1000}\n' * 40, 1000)):
        (place / "generations.jsonl").write_text(text)
        cost = estimate(cfg, None, 256, num_train=50, run=run).sampling[1]
        assert cost.lengths[0][1].mean == pytest.approx(mean, rel=0.01)
    assert "1,000 tokens, as drawn before" in cost.hours.assumed and cost.hours.gpu_hours.middle < 8


def test_the_shipped_presets_take_half_of_what_they_took_before():
    """Before: 16 and 4 chunks, 16 seeds at a time, seeded, one server over 8 GPUs, of vLLM 0.10."""
    old = ("server.data_parallel_size=1", "seeds_in_parallel=16", "server.arguments=[--no-async-scheduling]")
    engines = [f"{key}.engine.{change}" for key in ("teacher", "evaluate") for change in old]
    seeded = ["teacher.sampling.seeded=true", "evaluate.sampling.seeded=true"]

    def hours(*more: str) -> float:
        found = costs(*MAIN, "teacher.path=null", *more).values()
        return sum(one.hours.gpu_hours.middle for one in found)

    before = hours("generate.chunks=16", "evaluate.chunks=4", *engines, *seeded)
    assert before == pytest.approx(43 + 2 * 41, rel=0.15)
    assert 0.4 < hours() / before < 0.6
    assert 0.6 < hours(*(f"{key}.engine.{old[2]}" for key in ("teacher", "evaluate"))) / before < 0.67


def test_adapters_leave_out_the_gradients_of_the_weights():
    rl = ["train=nemo_rl", "train.layout.num_nodes=1"]
    full = estimate(load_config([*MAIN, *rl]), None, 256)
    cfg = load_config([*MAIN, *rl, "train.lora.enabled=true"])
    adapters = estimate(cfg, None, 256)
    own = 64 * adapter_parameters(QWEN_32B, cfg.train.lora)
    tokens = full.tokens_per_step * 50
    assert adapters.training.operations == pytest.approx((4 * full.model.parameters + 6 * own) * tokens)
    ratio = adapters.training.gpu_hours / full.training.gpu_hours
    assert 0.75 < ratio < 0.83, "3/4 of the operations where the forward pass is computed twice, and all communication"
    none = "train.layout.checkpoint_activations=none"
    kept = [
        estimate(load_config([*MAIN, *rl, none, *more]), None, 256).training.gpu_hours
        for more in ([], ["train.lora.enabled=true"])
    ]
    assert 2 / 3 < kept[1] / kept[0] < 0.78


def fits(*overrides: str) -> list:
    cfg = load_config([*MAIN, "cluster=slurm_8xh100", *overrides])
    found = preflight(cfg, estimate(cfg, None, 256, num_train=50), graph(cfg).kinds, elsewhere=True)
    return [finding for finding in found if finding.rule == "sampling_time"]


def test_a_job_that_cannot_be_done_in_its_time_limit_is_reported():
    limit = "cluster.resources.evaluate.time_limit='03:00:00'"
    unknown, short = fits("evaluate.chunks=1", limit)
    assert unknown.level == "unknown" and "generate: " in unknown.what
    assert short.level == "warning" and "evaluate/base, evaluate/trained: " in short.what
    assert "about 3.0 hours" in short.what and "03:00:00" in short.what and "evaluate.chunks" in short.fix
    assert [finding.level for finding in fits()] == ["unknown"]
    longer = ["evaluate.chunks=1", "cluster.resources.evaluate.time_limit='08:00:00'"]
    assert [finding.level for finding in fits(*longer)] == ["unknown"]


def test_without_a_cluster_there_is_no_such_rule():
    cfg = load_config(["experiment=quickstart"])
    assert not [f for f in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds) if f.rule == "sampling_time"]
