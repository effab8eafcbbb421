"""The memory arithmetic of the NeMo layouts: known parameter counts, and the numbers in conf/'s headers."""

import dataclasses
import re

import pytest

from nemo_cot.config.model import ModelShape
from nemo_cot.config.rule import GIB
from nemo_cot.experiment.compose import CONF, load_config
from nemo_cot.training.nemo.config import LayoutConfig, LoraConfig
from nemo_cot.training.nemo.memory import adapter_parameters, gpu_memory

PRESETS = sorted(path.stem for path in (CONF / "train" / "layout").glob("*.yaml"))
PACK_TOKENS = 16_384


def loaded(preset, *overrides):
    return load_config(
        [f"model={preset}", "model.path=/x", "train=nemo_aligner", f"train/layout={preset}", *overrides]
    )


def header(preset):
    lines = (CONF / "train" / "layout" / f"{preset}.yaml").read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("#"))


def test_every_issue_s_model_has_a_preset():
    assert {"qwen2.5_7b", "qwen2.5_14b", "qwen2.5_32b", "llama3_70b", "mistral_7b"} <= set(PRESETS)


@pytest.mark.parametrize(
    ("preset", "count"),  # of the safetensors of the published models
    [
        ("qwen2.5_7b", 7_615_616_512),
        ("qwen2.5_14b", 14_770_033_664),
        ("qwen2.5_32b", 32_763_876_352),
        ("llama3_70b", 70_553_706_496),
        ("mistral_7b", 7_248_023_552),
    ],
)
def test_parameters_are_those_of_the_published_model(preset, count):
    assert loaded(preset).model.shape.parameters == count


@pytest.mark.parametrize("preset", PRESETS)
def test_the_header_s_numbers_are_computed_and_fit(preset):
    cfg = loaded(preset)
    memory = gpu_memory(cfg.model.shape, cfg.train.layout, cfg.train.lora, PACK_TOKENS)
    line = next(line for line in header(preset).splitlines() if "weights" in line)
    written = {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+)(?:,|:| )", line)}
    computed = {f.name: round(getattr(memory, f.name) / GIB, 1) for f in dataclasses.fields(memory)}
    assert written == {**computed, "total": round(memory.total / GIB, 1)}
    assert line.endswith(f"of {cfg.train.layout.gpu_memory_gib}")
    assert memory.total < cfg.train.layout.gpu_memory_gib * GIB
    assert f"({cfg.model.shape.parameters / 1e9:.2f}e9 parameters)" in header(preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_header_says_does_not_fit_does_not(preset):
    for changes, total in re.findall(r"does not fit: (.+?): total ([\d.]+)", header(preset)):
        cfg = loaded(preset, *(f"train.layout.{change}" for change in changes.split()))
        memory = gpu_memory(cfg.model.shape, cfg.train.layout, cfg.train.lora, PACK_TOKENS).total / GIB
        assert round(memory, 1) == float(total)
        assert memory > cfg.train.layout.gpu_memory_gib


def test_the_32b_model_needs_two_nodes_for_adam_and_one_for_lora():
    one_node = loaded("qwen2.5_32b", "train.layout.num_nodes=1")
    full = gpu_memory(one_node.model.shape, one_node.train.layout, one_node.train.lora, PACK_TOKENS)
    assert (full.weights + full.gradients + full.optimizer) == pytest.approx(
        18 * 32_763_876_352 / 8, rel=0.001
    )
    assert full.total > 79.6 * GIB
    lora = dataclasses.replace(one_node.train.lora, enabled=True)
    assert gpu_memory(one_node.model.shape, one_node.train.layout, lora, PACK_TOKENS).total < 40 * GIB


SHAPE = ModelShape(
    layers=4,
    hidden=64,
    intermediate=128,
    heads=8,
    kv_heads=2,
    vocabulary=1000,
    qkv_bias=False,
    tied_embeddings=False,
)
LAYOUT = LayoutConfig(1, 8, 2, 1, 1, True, "full", True, 79.6, 0.0)
LORA = LoraConfig(False, 4, 8, 0.0, ["attention_qkv"])


def test_states_follow_megatrons_rule_of_6_plus_12_over_dp():
    count = SHAPE.parameters - SHAPE.hidden
    memory = gpu_memory(SHAPE, LAYOUT, LORA, 512)
    assert memory.weights + memory.gradients + memory.optimizer == pytest.approx(count / 2 * (6 + 12 / 4))
    without = gpu_memory(SHAPE, dataclasses.replace(LAYOUT, distributed_optimizer=False), LORA, 512)
    assert without.weights + without.gradients + without.optimizer == pytest.approx(count / 2 * 18)


def test_activations_shrink_with_recomputation_sequence_and_context_parallelism():
    def activations(**changes):
        return gpu_memory(SHAPE, dataclasses.replace(LAYOUT, **changes), LORA, 512).activations

    assert activations() < activations(checkpoint_activations="none")
    assert activations() < activations(sequence_parallel=False)
    assert activations(context_parallel_size=2) == activations() / 2


def test_pipeline_stages_halve_the_layers_and_the_logits_are_on_the_last():
    two = gpu_memory(SHAPE, dataclasses.replace(LAYOUT, pipeline_model_parallel_size=2), LORA, 100_000)
    assert two.logits > 0  # logits outweigh the first stage's second micro batch here
    assert two.weights < gpu_memory(SHAPE, LAYOUT, LORA, 100_000).weights


def test_adapters_count_rank_times_inputs_and_outputs():
    assert adapter_parameters(SHAPE, LORA) == 4 * (64 + 64 + 2 * 16)
