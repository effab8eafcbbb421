"""What a run will cost: tokens, packs, operations, memory. Estimates, with their formulas."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from nemo_cot.config import Config, LocalTrain
from nemo_cot.errors import UserError
from nemo_cot.models.tensors import tensor_index

_CHARACTERS_PER_TOKEN = 3.0
_PROBLEM_CHARACTERS = 90
"""A short problem statement: the real one is known only when the problems are made."""


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
    """Counts are of the whole run; None where the model's shape is not known before conversion."""

    prompt_tokens: int
    tokens_per_step: int
    packs_per_step: int
    train_flops: float | None
    train_bytes: int | None
    disk_bytes: int | None
    sampled_tokens_at_most: int
    shape: Shape | None


def estimate(cfg: Config, model_directory: Path | None, num_heldout: int | None) -> Estimate:
    """Estimate ``cfg`` with the model in ``model_directory`` (None: not there yet)."""
    prompt = math.ceil((len(cfg.model.prompt) + _PROBLEM_CHARACTERS) / _CHARACTERS_PER_TOKEN)
    length = cfg.curate.target_tokens + prompt
    sequences = (
        cfg.train.global_batch_size
        if cfg.train.batching == "literal"
        else min(cfg.curate.num_traces, cfg.train.global_batch_size)
    )
    shape = read_shape(model_directory) if model_directory else None
    tokens = sequences * length
    per_pack = min(tokens, cfg.pack.capacity_tokens)
    samples = (num_heldout or 0) * cfg.evaluate.samples_per_problem * len(cfg.evaluate.subjects)
    return Estimate(
        prompt_tokens=prompt,
        tokens_per_step=tokens,
        packs_per_step=math.ceil(sequences / max(1, cfg.pack.capacity_tokens // length)),
        train_flops=6.0 * shape.parameters * tokens * cfg.train.max_steps if shape else None,
        train_bytes=train_bytes(shape, cfg.train, per_pack)
        if shape and isinstance(cfg.train, LocalTrain)
        else None,
        disk_bytes=disk_bytes(shape) if shape else None,
        sampled_tokens_at_most=samples * cfg.evaluate.sampling.max_new_tokens,
        shape=shape,
    )


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


def disk_bytes(shape: Shape) -> int:
    """Base and trained model in bf16, and two checkpoints (the old one is kept until the new is whole)."""
    return shape.parameters * (2 + 2 + 2 * 12)


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
