"""Rendered configs: whole golden files, and the values that keep a run out of the known traps.

A change of a golden file has to be meant: UPDATE_GOLDEN=1 pytest tests/training/nemo/test_render.py writes
them anew, and the difference belongs in the review.
"""

import os
from pathlib import Path

import pytest
import yaml

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.training.nemo.rendered import to_yaml
from nemo_cot.training.nemo_aligner.render import AlignerInputs, render_nemo_aligner
from nemo_cot.training.nemo_rl.render import RlInputs, render_nemo_rl

GOLDEN = Path(__file__).parent / "golden"
ALIGNER = AlignerInputs("/models/base-nemo", "/run/train.npy", 216, "/run/aligner", "paper")
RL = RlInputs("/models/base", "/run/train.jsonl", "/run/rl", "paper")
CASES = {
    "aligner_qwen2.5_7b": ("nemo_aligner", "qwen2.5_7b", []),
    "aligner_qwen2.5_32b": ("nemo_aligner", "qwen2.5_32b", []),
    "aligner_qwen2.5_32b_lora": (
        "nemo_aligner",
        "qwen2.5_32b",
        ["train.lora.enabled=true", "train.layout.num_nodes=1"],
    ),
    "aligner_llama3_70b": ("nemo_aligner", "llama3_70b", []),
    "rl_qwen2.5_7b": ("nemo_rl", "qwen2.5_7b", []),
    "rl_qwen2.5_32b": ("nemo_rl", "qwen2.5_32b", []),
}


def config(backend, model, overrides=()):
    chosen = [f"model={model}", "model.path=/models/base", f"train={backend}", f"train/layout={model}"]
    return load_config([*chosen, "pack.capacity_tokens=16384", *overrides])


def render(backend, model, overrides=()):
    cfg = config(backend, model, overrides)
    if backend == "nemo_aligner":
        return render_nemo_aligner(cfg.train, cfg.pack, ALIGNER)
    return render_nemo_rl(cfg.train, cfg.pack, RL)


@pytest.mark.parametrize("name", CASES)
def test_the_rendered_file_is_the_golden_one(name):
    path, text = GOLDEN / f"{name}.yaml", to_yaml(render(*CASES[name]))
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_no_golden_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_yaml_reads_back_as_what_was_rendered(name):
    rendered = render(*CASES[name])
    assert yaml.safe_load(to_yaml(rendered)) == rendered


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("aligner")])
def test_aligner_traps_are_avoided_by_construction(name):
    rendered = render(*CASES[name])
    trainer, model = rendered["trainer"], rendered["model"]
    assert trainer["max_steps"] == trainer["sft"]["max_steps"] == model["optim"]["sched"]["max_steps"] == 50
    assert trainer["max_epochs"] == trainer["sft"]["max_epochs"] == 1
    assert trainer["sft"]["save_interval"] % trainer["sft"]["val_check_interval"] == 0
    assert trainer["sft"]["limit_val_batches"] == 0
    assert rendered["exp_manager"]["checkpoint_callback_params"]["monitor"] == "step"
    assert rendered["exp_manager"]["resume_if_exists"] and rendered["exp_manager"]["explicit_log_dir"]
    assert model["encoder_seq_length"] == model["data"]["train_ds"]["max_seq_length"] == 16_384
    assert model["global_batch_size"] == model["data"]["train_ds"]["global_batch_size"] == 216
    assert model["optim"]["sched"]["constant_steps"] == 0
    assert model["answer_only_loss"] is True
    dataset, unused = model["data"]["train_ds"], model["data"]["validation_ds"]
    assert dataset["packed_sequence"] and dataset["drop_last"] and unused["drop_last"]
    assert not dataset["add_eos"] and not dataset["add_bos"] and dataset["micro_batch_size"] == 1
    assert not model["data"]["chat"]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("rl")])
def test_rl_traps_are_avoided_by_construction(name):
    rendered = render(*CASES[name])
    policy, data = rendered["policy"], rendered["data"]
    assert policy["train_global_batch_size"] == 1024
    # NeMo-RL blanks a row whose length is the limit.
    assert data["max_input_seq_length"] == policy["max_total_sequence_length"] + 1 == 16_385
    assert policy["tokenizer"]["chat_template"] is None
    assert not data["add_bos"] and not data["add_eos"] and not data["shuffle"]
    assert policy["megatron_cfg"]["scheduler"]["lr_warmup_iters"] == 5
    assert policy["megatron_cfg"]["scheduler"]["lr_decay_iters"] == rendered["sft"]["max_num_steps"] == 50
    assert policy["megatron_cfg"]["optimizer"]["min_lr"] == 0.0
    assert (
        policy["make_sequence_length_divisible_by"] % policy["megatron_cfg"]["tensor_model_parallel_size"]
        == 0
    )


@pytest.mark.parametrize(
    ("schedule", "name"), [("constant", "WarmupPolicy"), ("linear", "PolynomialDecayAnnealing")]
)
def test_other_schedules(schedule, name):
    sched = render("nemo_aligner", "qwen2.5_7b", [f"train.optim.sched.name={schedule}"])["model"]["optim"][
        "sched"
    ]
    assert sched["name"] == name and "constant_steps" not in sched


def test_options_reach_the_backend_s_keys():
    changed = [
        "train.layout.checkpoint_activations=selective",
        "train.layout.distributed_optimizer=false",
        "train.layout.context_parallel_size=2",
        "train.max_time_per_run=01:00:00:00",
    ]
    aligner = render("nemo_aligner", "qwen2.5_7b", changed)
    assert aligner["model"]["activations_checkpoint_granularity"] == "selective"
    assert aligner["model"]["activations_checkpoint_method"] is None
    assert aligner["model"]["optim"]["name"] == "fused_adam"
    assert aligner["model"]["context_parallel_size"] == 2
    assert aligner["exp_manager"]["max_time_per_run"] == "01:00:00:00"
    rl = render("nemo_rl", "qwen2.5_7b", changed)["policy"]
    assert rl["megatron_cfg"]["recompute_granularity"] == "selective"
    assert rl["make_sequence_length_divisible_by"] == 2 * 2 * 2
    assert not rl["megatron_cfg"]["optimizer"]["use_distributed_optimizer"]


def test_adapters_are_named_as_each_backend_names_them():
    lora = ["train.lora.enabled=true", "train.lora.target_modules=[attention_qkv]"]
    assert render("nemo_aligner", "qwen2.5_7b", lora)["model"]["peft"]["peft_scheme"] == "lora"
    peft = render("nemo_rl", "qwen2.5_7b", lora)["policy"]["megatron_cfg"]["peft"]
    assert peft["enabled"] and peft["target_modules"] == ["linear_qkv"]


def test_weighted_batches_are_refused_by_nemo_rl():
    with pytest.raises(UserError, match=r"train\.batching"):
        render("nemo_rl", "qwen2.5_7b", ["train.batching=distinct"])


@pytest.mark.parametrize("backend", ["nemo_aligner", "nemo_rl"])
def test_gpus_that_make_no_whole_copies_are_refused(backend):
    with pytest.raises(UserError, match=r"train\.layout"):
        render(backend, "qwen2.5_7b", ["train.layout.tensor_model_parallel_size=3"])
