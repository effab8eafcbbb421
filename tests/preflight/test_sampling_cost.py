"""What sampling costs: tokens at most, the bound on GPU-hours, and the job's time limit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from nemo_cot.config import h100
from nemo_cot.experiment.compose import load_config
from nemo_cot.preflight import preflight
from nemo_cot.preflight.estimate import estimate
from nemo_cot.preflight.sampling_cost import decode_seconds
from nemo_cot.training.nemo.memory import adapter_parameters

PAPER = ["problems.train_path=/none", "problems.heldout_path=/none", "model.path=/none"]
MAIN = ["experiment=paper_main", *PAPER, "teacher.path=/none"]
BASELINES = ["experiment=paper_baselines", *PAPER, "evaluate.models.qwen_math_72b.path=/none"]
QWEN_32B = load_config(["model=qwen2.5_32b", "model.path=/x"]).model.shape


def costs(*overrides: str) -> dict:
    cost = estimate(load_config(overrides), None, 256, num_train=50)
    return {sampled.label: sampled for sampled in cost.sampling}


def test_generation_is_counted_and_each_subject_by_its_own_limit():
    assert costs(*MAIN)["teacher"].tokens_at_most == 50 * 512 * 16384
    found = costs(*BASELINES)
    assert found["base"].tokens_at_most == 256 * 64 * 16384
    assert found["qwen_math_72b"].tokens_at_most == 256 * 64 * 3072
    total = estimate(load_config(BASELINES), None, 256).sampled_tokens_at_most
    assert total == 256 * 64 * (16384 + 3072)


def test_one_answer_at_a_time_reads_all_weights_for_each_token():
    alone = decode_seconds(QWEN_32B, batch=1, num_gpus=8, context=1)
    assert alone == pytest.approx(2 * QWEN_32B.parameters / h100.BYTES_PER_SECOND, rel=1e-4)


def test_a_batch_shares_the_weights_and_reads_its_own_keys_and_values():
    cached = 8192 * 2 * 2 * 64 * 1024  # tokens x (keys, values) x bytes x layers x width
    shared = decode_seconds(QWEN_32B, batch=100, num_gpus=8, context=8192)
    assert shared == pytest.approx((2 * QWEN_32B.parameters / 100 + cached) / h100.BYTES_PER_SECOND)
    full = (8 * h100.MEMORY_BYTES - 2 * QWEN_32B.parameters) / cached
    most = decode_seconds(QWEN_32B, batch=10**6, num_gpus=8, context=8192)
    assert most == pytest.approx((2 * QWEN_32B.parameters / full + cached) / h100.BYTES_PER_SECOND)


def test_short_answers_in_large_batches_are_bound_by_operations():
    assert decode_seconds(QWEN_32B, batch=10**6, num_gpus=8, context=1) == pytest.approx(
        2 * QWEN_32B.parameters / h100.BF16_FLOPS
    )
    with pytest.raises(ValueError, match="do not fit 1 GPU"):
        decode_seconds(dataclasses.replace(QWEN_32B, layers=128), batch=1, num_gpus=1, context=1)


def test_hours_are_told_where_model_and_machine_are_known_and_else_why_not(tmp_path: Path):
    found = costs(*MAIN)
    assert found["base"].gpu_hours_at_least == pytest.approx(53.2, abs=0.1)
    assert found["teacher"].gpu_hours_at_least is None and "config.json of /none" in found["teacher"].reason
    shape = {
        "model_type": "qwen2", "num_hidden_layers": 64, "hidden_size": 5120, "intermediate_size": 27648,
        "num_attention_heads": 40, "num_key_value_heads": 8, "vocab_size": 152064,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(shape))
    known = costs(*MAIN, f"teacher.path={tmp_path}")["teacher"]
    assert known.gpu_hours_at_least == pytest.approx(53.2 * 25600 / 16384, abs=0.2)
    for overrides, why in [
        (["experiment=quickstart"], "embedded"),
        ([*MAIN, "evaluate.engine.server.base_url=http://h:1/v1"], "server that is there"),
    ]:
        assert why in costs(*overrides)["base"].reason


def test_adapters_leave_out_the_gradients_of_the_weights():
    rl = ["train=nemo_rl", "train.layout.num_nodes=1"]
    full = estimate(load_config([*MAIN, *rl]), None, 256)
    cfg = load_config([*MAIN, *rl, "train.lora.enabled=true"])
    adapters = estimate(cfg, None, 256)
    own = 64 * adapter_parameters(QWEN_32B, cfg.train.lora)
    tokens = full.tokens_per_step * 50
    assert adapters.training.operations == pytest.approx((4 * full.model.parameters + 6 * own) * tokens)
    assert adapters.training.gpu_hours == pytest.approx(
        (adapters.training.operations + 2 * full.model.parameters * tokens) / (0.4 * 989e12) / 3600
    )
    assert 0.74 < adapters.training.gpu_hours / full.training.gpu_hours < 0.77, "3/4 where the forward pass is computed twice"
    none = "train.layout.checkpoint_activations=none"
    kept = [
        estimate(load_config([*MAIN, *rl, none, *more]), None, 256).training.gpu_hours
        for more in ([], ["train.lora.enabled=true"])
    ]
    assert 0.66 < kept[1] / kept[0] < 0.69


def fits(*overrides: str) -> list:
    cfg = load_config([*MAIN, "cluster=slurm_8xh100", *overrides])
    found = preflight(cfg, estimate(cfg, None, 256, num_train=50), elsewhere=True)
    return [finding for finding in found if finding.rule == "sampling_time"]


def test_a_job_that_cannot_be_done_in_its_time_limit_is_told():
    unknown, short = fits()
    assert unknown.level == "unknown" and "generate teacher" in unknown.what
    assert short.level == "warning" and "evaluate base, evaluate trained: " in short.what
    assert "6.6 hours" in short.what and "04:00:00" in short.what and "evaluate.chunks" in short.fix
    assert [finding.level for finding in fits("evaluate.chunks=2")] == ["unknown"]
    assert [finding.level for finding in fits("cluster.resources.evaluate.time_limit='08:00:00'")] == [
        "unknown"
    ]


def test_without_a_cluster_there_is_no_such_rule():
    cfg = load_config(["experiment=quickstart"])
    assert not [f for f in preflight(cfg, estimate(cfg, None, 30)) if f.rule == "sampling_time"]
