"""What a run will cost: tokens, packs, operations, memory. Estimates, with their formulas."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from nemo_cot.config import Config, LocalTrain, TrainConfig
from nemo_cot.errors import UserError
from nemo_cot.models.tensors import tensor_index
from nemo_cot.nemo.config import NemoTrain
from nemo_cot.preflight.nemo_memory import gpu_memory, parameters

_CHARACTERS_PER_TOKEN = 3.0
_PROBLEM_CHARACTERS = 90
"""A short problem statement: the real one is known only when the problems are made."""


H100_BF16_FLOPS = 989e12
"""Operations a second, dense, of an H100 SXM5 (NVIDIA's data sheet)."""
UTILISATION = 0.4
"""Share of the peak that Megatron-LM's own tables show for models of this size on H100; assumed, not measured."""


@dataclass(frozen=True)
class Shape:
    """What of a model's config decides its cost."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int


@dataclass(frozen=True)
class Estimate:
    """Counts are of the whole run; None where they are not known before the problems or the model are there.

    ``gpu_bytes`` (on the fullest GPU) and ``gpu_hours`` are of training with a NeMo backend.
    """

    prompt_tokens: int
    tokens_per_step: int
    packs_per_step: int
    parameters: int | None
    train_flops: float | None
    train_bytes: int | None
    gpu_bytes: float | None
    gpu_hours: float | None
    disk_bytes: int | None
    sampled_tokens_at_most: int | None
    shape: Shape | None


def estimate(cfg: Config, model_directory: Path | None, num_heldout: int | None) -> Estimate:
    """Estimate ``cfg`` with the model in ``model_directory`` (None: not there yet)."""
    prompt = math.ceil((len(cfg.model.prompt) + _PROBLEM_CHARACTERS) / _CHARACTERS_PER_TOKEN)
    length = cfg.curate.target_tokens + prompt
    sequences = _sequences_per_step(cfg)
    shape = read_shape(model_directory) if model_directory else None
    count = shape.parameters if shape else parameters(cfg.model.shape) if cfg.model.shape else None
    tokens = sequences * length
    trains = "train" in cfg.launcher.stages
    flops = 6.0 * count * tokens * cfg.train.max_steps if count and trains else None
    return Estimate(
        prompt_tokens=prompt,
        tokens_per_step=tokens,
        packs_per_step=math.ceil(sequences / max(1, cfg.pack.capacity_tokens // length)),
        parameters=count,
        train_flops=flops,
        train_bytes=_local_bytes(cfg, shape, tokens) if trains else None,
        gpu_bytes=_gpu_bytes(cfg) if trains else None,
        gpu_hours=gpu_hours(cfg.train, flops) if flops and isinstance(cfg.train, NemoTrain) else None,
        disk_bytes=disk_bytes(count, cfg.train) if count and trains else None,
        sampled_tokens_at_most=_evaluated_tokens(cfg, num_heldout),
        shape=shape,
    )


def _sequences_per_step(cfg: Config) -> int:
    whole = cfg.train.global_batch_size
    return whole if cfg.train.batching == "literal" else min(cfg.curate.num_traces, whole)


def _evaluated_tokens(cfg: Config, num_heldout: int | None) -> int | None:
    if num_heldout is None:
        return None
    samples = num_heldout * cfg.evaluate.samples_per_problem * len(cfg.evaluate.subjects)
    return samples * cfg.evaluate.sampling.max_new_tokens


def _local_bytes(cfg: Config, shape: Shape | None, tokens: int) -> int | None:
    if shape is None or not isinstance(cfg.train, LocalTrain):
        return None
    return train_bytes(shape, cfg.train, min(tokens, cfg.pack.capacity_tokens))


def _gpu_bytes(cfg: Config) -> float | None:
    train, shape = cfg.train, cfg.model.shape
    if not isinstance(train, NemoTrain) or shape is None:
        return None
    if train.layout.world_size % train.layout.model_parallel_size:
        return None  # the rule nemo_copies says so
    return gpu_memory(shape, train.layout, train.lora, cfg.pack.capacity_tokens).total


def gpu_hours(train: NemoTrain, flops: float) -> float:
    """Hours x GPUs of training, start-up and saving not counted.

    At UTILISATION of an H100 SXM's dense bf16 peak; full activation checkpointing runs the forward
    pass twice, a third more work.
    """
    again = 4 / 3 if train.layout.checkpoint_activations == "full" else 1.0
    return again * flops / (UTILISATION * H100_BF16_FLOPS) / 3600


def train_bytes(shape: Shape, train: LocalTrain, pack_tokens: int) -> int:
    """Peak memory of local training, bytes: state, activations of one pack, one chunk of logits.

    State a parameter: 4 master + 4 gradient + 8 AdamW, and 2 (weight) + at most 2 (gradient in
    flight) in bf16. Activations a token and layer, in elements: about 10 x hidden (residual
    stream, norms with their float32 copies, projections) + 4 x intermediate + 6 x key-value width
    (after Korthikanti et al., arXiv 2205.05198, for gated MLPs without dropout). With activation
    checkpointing one layer's activations and every layer's input are kept.
    """
    low = train.precision == "bf16"
    state = shape.parameters * (16 + (4 if low else 0))
    width = 2 if low else 4
    key_value = shape.hidden * shape.kv_heads // shape.heads
    layer = pack_tokens * (
        width * (6 * shape.hidden + 4 * shape.intermediate + 6 * key_value) + 4 * 4 * shape.hidden
    )
    kept = (
        layer + shape.layers * pack_tokens * shape.hidden * width
        if train.activation_checkpointing
        else shape.layers * layer
    )
    logits = 256 * shape.vocabulary * (4 + 4 + width) + 4 * shape.vocabulary * shape.hidden
    return state + kept + logits + 2**29  # interpreter and libraries


def disk_bytes(parameters: int, train: TrainConfig) -> int:
    """Base and trained model in bf16, and the checkpoints: of local training two (the old one is kept
    until the new is whole) with fp32 weights and two moments; of NeMo the converted base and save_top_k
    and the last, with bf16 weights besides. LoRA's checkpoints are small.
    """
    if not isinstance(train, NemoTrain):
        return parameters * (2 + 2 + 2 * 12)
    kept = 0 if train.lora.enabled else 14 * (train.save_top_k + 1)
    return parameters * (2 + 2 + 2 + kept)


def read_shape(folder: Path) -> Shape | None:
    """Shape of the model in a Hugging Face directory; None without config or weights."""
    try:
        config = json.loads((folder / "config.json").read_text())
        parameters = sum(math.prod(tensor.shape) for tensor in tensor_index(folder).values())
        heads = config["num_attention_heads"]
        return Shape(
            parameters,
            config["num_hidden_layers"],
            config["hidden_size"],
            config["intermediate_size"],
            heads,
            config.get("num_key_value_heads") or heads,
            config["vocab_size"],
        )
    except (OSError, ValueError, KeyError, UserError):
        return None
