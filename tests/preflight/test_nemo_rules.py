"""Every NeMo rule fires on the trap it is for, names the key, and stays quiet on the presets."""

import pytest
from nemo_cot.preflight.nemo_rules import NEMO_RULES

from nemo_cot.experiment.compose import CONF, load_config
from nemo_cot.preflight import preflight
from nemo_cot.preflight.estimate import Shape, estimate

PRESETS = sorted(path.stem for path in (CONF / "train" / "layout").glob("*.yaml"))
NAMES = [rule.__name__.strip("_") for rule in NEMO_RULES]


def findings(*overrides, backend="nemo_aligner", model="qwen2.5_32b", directory=None, shape=None):
    base = [f"model={model}", "model.path=/models/base", f"train={backend}", f"train/layout={model}"]
    good = ["pack.capacity_tokens=16384", "pack.strategy=shuffle"]
    if backend == "nemo_aligner":
        good.append(f"train.nemo_model={directory or '/models/base-nemo'}")
    cfg = load_config([*base, *good, *overrides])
    cost = estimate(cfg, None, 30)
    if shape:
        cfg.model.shape = None
        object.__setattr__(cost, "shape", shape)
    return {f.rule: f for f in preflight(cfg, cost) if f.rule in NAMES and f.level != "ok"}


@pytest.mark.parametrize("backend", ["nemo_aligner", "nemo_rl"])
@pytest.mark.parametrize("model", PRESETS)
def test_the_presets_are_clean(backend, model, tmp_path):
    assert findings(backend=backend, model=model, directory=tmp_path) == {}


@pytest.mark.parametrize(
    ("rule", "level", "key", "overrides"),
    [
        ("nemo_copies", "error", "train.layout.num_nodes", ["train.layout.tensor_model_parallel_size=3"]),
        (
            "nemo_heads",
            "error",
            "train.layout.tensor_model_parallel_size",
            ["train.layout.tensor_model_parallel_size=16"],
        ),
        (
            "nemo_heads",
            "error",
            "train.layout.pipeline_model_parallel_size",
            ["train.layout.num_nodes=3", "train.layout.pipeline_model_parallel_size=3"],
        ),
        (
            "nemo_sequence_parallel",
            "error",
            "train.layout.sequence_parallel",
            ["train.layout.tensor_model_parallel_size=1"],
        ),
        ("nemo_micro_batch", "error", "train.micro_batch_size", ["train.micro_batch_size=2"]),
        (
            "nemo_batch_ranks",
            "error",
            "train.layout.num_nodes",
            ["train.batching=distinct", "curate.num_traces=1"],
        ),
        ("nemo_width", "error", "pack.capacity_tokens to 16384", ["pack.capacity_tokens=16380"]),
        ("nemo_width", "error", "pack.capacity_tokens to 16384", ["pack.capacity_tokens=16352"]),
        ("nemo_schedule", "error", "train.optim.sched.warmup_steps", ["train.optim.sched.warmup_steps=50"]),
        ("nemo_schedule", "warning", "train.optim.sched.min_lr", ["train.optim.sched.min_lr=9e-6"]),
        ("nemo_save_points", "warning", "train.save_interval_steps", ["train.save_interval_steps=50"]),
        ("nemo_precision", "error", "train.precision", ["train.precision=fp32"]),
        ("nemo_loss_weights", "warning", "pack.strategy", ["pack.strategy=best_fit"]),
        ("nemo_loss_weights", "warning", "train.batching", ["train.batching=distinct"]),
        (
            "nemo_model",
            "error",
            "hf_to_nemo",
            ["train.nemo_model=null", "launcher.stages=[pack,train]"],
        ),
        (
            "nemo_conversion",
            "error",
            "train=nemo_rl",
            ["train.lora.enabled=true", "train.layout.num_nodes=1"],
        ),
        ("nemo_conversion", "error", "tied_embeddings", ["model.shape.tied_embeddings=true"]),
        (
            "nemo_conversion",
            "error",
            "train.conversion.average_steps",
            ["train.conversion.average_steps=[25,50]"],
        ),
        (
            "nemo_conversion",
            "error",
            "train.save_top_k",
            ["train.conversion.average_steps=[10,50]", "train.save_top_k=2"],
        ),
        (
            "nemo_adapter_dropout",
            "error",
            "train.lora.dropout",
            [
                "train.batching=distinct",
                "train.lora.enabled=true",
                "train.lora.dropout=0.1",
                "train.layout.num_nodes=1",
            ],
        ),
        ("nemo_model", "warning", "train.nemo_model", ["train.nemo_model=/nowhere"]),
        ("nemo_gpu_memory", "error", "train.layout.num_nodes", ["train.layout.num_nodes=1"]),
        ("nemo_gpu_memory", "warning", "train.megatron_amp_O2", ["train.megatron_amp_O2=false"]),
    ],
)
def test_a_trap_of_aligner_fires(rule, level, key, overrides, tmp_path):
    found = findings(*overrides, directory=tmp_path)[rule]
    assert found.level == level
    assert key in found.fix


@pytest.mark.parametrize(
    ("rule", "key", "overrides"),
    [
        ("nemo_batch_ranks", "train.global_batch_size", ["train.global_batch_size=1023"]),
        ("nemo_loss_weights", "train.batching", ["train.batching=distinct"]),
        ("nemo_width", "pack.capacity_tokens to 16384", ["pack.capacity_tokens=16380"]),
    ],
)
def test_a_trap_of_nemo_rl_fires(rule, key, overrides):
    found = findings(*overrides, backend="nemo_rl")[rule]
    assert found.level == "error" and key in found.fix


def test_no_job_starts_ray_on_several_nodes():
    assert "nemo_ray" not in findings(backend="nemo_rl")
    found = findings("cluster=slurm_minimal", backend="nemo_rl")["nemo_ray"]
    assert found.level == "error" and "train.layout.num_nodes" in found.fix


def test_ray_has_its_node_to_itself():
    one = ["cluster=slurm_minimal", "train.layout.num_nodes=1", "train.lora.enabled=true"]
    found = findings(*one, backend="nemo_rl")["nemo_ray_neighbours"]
    assert found.level == "error" and found.fix == "set cluster.exclusive=true"
    assert "nemo_ray_neighbours" not in findings(*one, "cluster.exclusive=true", backend="nemo_rl")
    assert "nemo_ray_neighbours" not in findings(*one)


def test_saved_steps_may_be_averaged_and_the_base_model_converted():
    kept = ["train.conversion.average_steps=[30,40,50]", "train.save_top_k=3", "train.nemo_model=null"]
    assert findings(*kept) == {}


def test_a_pack_that_7b_models_share_among_4_kv_heads():
    assert (
        "divisor of 4"
        in findings("train.layout.tensor_model_parallel_size=8", model="qwen2.5_7b")["nemo_heads"].fix
    )


def test_an_unknown_shape_is_said_and_a_read_one_is_used():
    cfg = load_config(["model=hf_directory", "model.path=/x", "train=nemo_rl"])
    found = {f.rule: f for f in preflight(cfg, estimate(cfg, None, 30))}
    assert found["nemo_heads"].level == "warning" and "model.shape" in found["nemo_heads"].fix
    read = Shape(10**9, 24, 1024, 4096, 16, 2, 32000)
    assert "2 key-value heads" in findings(backend="nemo_rl", shape=read)["nemo_heads"].what


def test_under_the_local_backend_each_rule_says_that_it_does_not_apply():
    cfg = load_config(["experiment=quickstart"])
    found = {f.rule: f for f in preflight(cfg, estimate(cfg, None, 30)) if f.rule in NAMES}
    assert set(found) == set(NAMES)
    assert all(
        f.level == "ok" and f.what.startswith("does not apply: train.backend=local") for f in found.values()
    )


def test_the_eos_must_not_be_the_end_of_turn():
    cfg = load_config(
        ["model=qwen2.5_7b", "model.path=/x", "train=nemo_aligner", "model.eos_token='<|im_end|>'"]
    )
    found = [
        f
        for f in preflight(cfg, estimate(cfg, None, 30))
        if f.rule == "eos_not_in_prompt" and f.level == "error"
    ]
    assert found and all("model.eos_token" in f.fix for f in found)


@pytest.mark.parametrize(
    "setting",
    [
        "train.max_time_per_run=4h",
        "train.max_time_per_run='00:00:00:00'",
        "train.save_top_k=0",
        "train.save_top_k=-1",
        "train.num_workers=-1",
        "train.lora.alpha=0",
        "train.objective=sequence_mean",
        "train.lora.target_modules=[attention_qvk]",
    ],
)
def test_wrong_values_are_refused_when_the_config_is_loaded(setting):
    with pytest.raises(Exception, match=setting.split("=")[0]):
        load_config(["train=nemo_aligner", setting])
