"""Every NeMo rule fires on the trap it is for, names the key, and stays quiet on the presets."""

import json

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import CONF, load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.preflight import preflight
from nemo_cot.preflight.estimate import estimate
from nemo_cot.training.backend import backend_of
from nemo_cot.training.nemo_aligner.conversion import family_of

PRESETS = sorted(path.stem for path in (CONF / "train" / "layout").glob("*.yaml"))


def findings(*overrides, backend="nemo_aligner", model="qwen2.5_32b", directory=None):
    """What the backend's own rules have to say, but that all is well."""
    base = [f"model={model}", "model.path=/models/base", f"train={backend}", f"train/layout={model}"]
    good = ["pack.capacity_tokens=16384", "pack.strategy=shuffle"]
    if backend == "nemo_aligner":
        good.append(f"train.nemo_model={directory or '/models/base-nemo'}")
    cfg = load_config([*base, *good, *overrides])
    own = {rule.name for rule in backend_of(cfg.train).rules}
    return {f.rule: f for f in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds) if f.rule in own and f.level != "ok"}


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
            "nemo_end_of_turn", "error", "transform.steps",
            ["transform.steps=[{name:truncate,dose:0.5,end_of_turn:false}]"],
        ),
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
        ("nemo_conversion", "error", "tie_word_embeddings", ["model.shape.tied_embeddings=true"]),
        (
            "nemo_average_steps",
            "error",
            "train.conversion.average_steps",
            ["train.conversion.average_steps=[25,50]"],
        ),
        (
            "nemo_average_steps",
            "error",
            "train.save_top_k",
            ["train.conversion.average_steps=[10,50]", "train.save_top_k=2"],
        ),
        (
            "adapter_dropout",
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
        ("nemo_o2", "warning", "train.megatron_amp_O2", ["train.megatron_amp_O2=false"]),
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


def test_32b_fits_one_node_where_the_optimizer_s_state_is_in_host_memory():
    """By hand: weights 7.6 and gradients 15.3 GiB per GPU stay; the state is 12 bytes x 32.76e9 = 366 GiB per node."""
    one = ["train.layout.num_nodes=1"]
    assert "nemo_gpu_memory" in findings(*one, backend="nemo_rl")
    assert "optimizer_cpu_offload" in findings(*one, backend="nemo_rl")["nemo_gpu_memory"].fix
    offloaded = [*one, "train.optimizer_cpu_offload=true"]
    assert "nemo_gpu_memory" not in findings(*offloaded, backend="nemo_rl")
    whole = findings(*offloaded, "train.layout.distributed_optimizer=false", backend="nemo_rl")["nemo_offload"]
    assert whole.level == "error" and "train.layout.distributed_optimizer=true" in whole.fix
    slurm = ["cluster=slurm_minimal", "cluster.exclusive=true", "cluster.resources.train.nodes=null"]
    for memory, fits in (("300G", False), ("400G", True), ("'0'", True), ("300000", False)):
        found = findings(*offloaded, *slurm, f"cluster.resources.train.memory={memory}", backend="nemo_rl")
        assert ("nemo_offload" not in found) is fits, memory


def test_a_submitted_job_may_have_several_nodes():
    several = ["cluster=slurm_minimal", "cluster.exclusive=true", "cluster.resources.train.nodes=null"]
    assert findings(*several, backend="nemo_rl") == findings(backend="nemo_rl")


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


def write_config(folder, **changes):
    """config.json of a small model, whose embeddings are tied unless ``changes`` say otherwise."""
    config = {
        "model_type": "qwen2", "num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096,
        "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 32000, "tie_word_embeddings": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return f"model.path={folder}"


def test_an_unknown_shape_is_said_and_a_read_one_is_used(tmp_path):
    cfg = load_config(["model=hf_directory", "model.path=/x", "train=nemo_rl"])
    found = {f.rule: f for f in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds)}
    assert found["nemo_heads"].level == "warning" and "model.shape" in found["nemo_heads"].fix
    cfg = load_config(["model=hf_directory", write_config(tmp_path), "train=nemo_rl"])
    found = {f.rule: f for f in preflight(cfg, estimate(cfg, tmp_path, 30), graph(cfg).kinds)}
    assert "2 key-value heads" in found["nemo_heads"].what


@pytest.mark.parametrize("backend", ["nemo_aligner", "nemo_rl"])
def test_a_tied_model_has_one_figure_and_is_refused_where_its_conversion_is(backend, tmp_path):
    """The memory that plan prints is the one that the rule judges by, at the border as well."""
    model = ["model=hf_directory", write_config(tmp_path), f"train={backend}", "train/layout=mistral_7b"]
    small = ["train.layout.tensor_model_parallel_size=2", "pack.capacity_tokens=16384"]

    def looked_at(*more):
        cfg = load_config([*model, *small, *more])
        cost = estimate(cfg, tmp_path, 30)
        rules = {f.rule: f for f in preflight(cfg, cost, graph(cfg).kinds) if f.level == "error"}
        return cost, rules

    cost, rules = looked_at()
    assert cost.model.parameters == cost.model.shape.parameters
    untied = write_config(tmp_path, tie_word_embeddings=False)
    both, fine = looked_at(untied)
    assert both.model.parameters - cost.model.parameters == 32000 * 1024
    assert cost.training.memory_bytes < both.training.memory_bytes and "nemo_conversion" not in fine
    write_config(tmp_path)
    size = cost.training.memory_bytes / 2**30
    for gib, fits in ((size * 1.0001, True), (size * 0.9999, False)):
        _, judged = looked_at(f"train.layout.gpu_memory_gib={gib}")
        assert ("nemo_gpu_memory" not in judged) == fits
    assert ("nemo_conversion" in rules) == (backend == "nemo_aligner")
    if backend == "nemo_aligner":
        with pytest.raises(UserError) as refused:
            family_of(tmp_path)
        assert refused.value.what in rules["nemo_conversion"].what
        assert "nemo_conversion" not in looked_at("launcher.stages=[pack,train]", "train.nemo_model=/x")[1]


def test_a_model_that_no_converter_takes_is_refused_before_anything_runs(tmp_path):
    gemma = write_config(tmp_path, model_type="gemma2", tie_word_embeddings=False)
    cfg = load_config(["model=hf_directory", gemma, "train=nemo_aligner"])
    (error,) = [f for f in preflight(cfg, estimate(cfg, tmp_path, 30), graph(cfg).kinds) if f.rule == "nemo_conversion"]
    assert error.level == "error" and "gemma2" in error.what


def test_the_rules_of_another_backend_are_not_there():
    cfg = load_config(["experiment=quickstart"])
    found = {f.rule for f in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds)}
    assert not {name for name in found if name.startswith(("nemo_", "layout_"))} and "literal_cost" in found
    cfg = load_config(["experiment=quickstart", "train=nemo_rl"])
    found = {f.rule for f in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds)}
    assert "nemo_ray_neighbours" in found and found.isdisjoint({"literal_cost", "memory", "nemo_micro_batch"})


def test_the_eos_must_not_be_the_end_of_turn():
    cfg = load_config(
        ["model=qwen2.5_7b", "model.path=/x", "train=nemo_aligner", "model.eos_token='<|im_end|>'"]
    )
    found = [
        f
        for f in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds)
        if f.rule == "eos_not_in_prompt" and f.level == "error"
    ]
    assert found and all("model.eos_token" in f.fix for f in found)


@pytest.mark.parametrize(
    "setting",
    [
        "train.max_time_per_run=4h",
        "train.max_time_per_run='00:00:00:00'",
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
