"""What a run will cost: tokens, packs, operations, memory. Estimates, with their formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from nemo_cot.config import ChainSumProblems, Config, FileProblems, TrainConfig
from nemo_cot.training.local.config import LocalTrain
from nemo_cot.errors import UserError
from nemo_cot.io.paths import user_path
from nemo_cot.config.model import ModelShape
from nemo_cot.models.tensors import tensor_index
from nemo_cot.training.nemo.config import NemoTrain
from nemo_cot.preflight.layouts import NamedLayout
from nemo_cot.preflight.model_files import read_config, shape_of
from nemo_cot.preflight.nemo_memory import adapter_parameters, gpu_memory, parameters
from nemo_cot.preflight.sampling_cost import H100_BF16_FLOPS, SamplingCost, sampling_costs
from nemo_cot.stages.manifest import count_rows

_CHARACTERS_PER_TOKEN = 3.0
_PROBLEM_CHARACTERS = 90
"""A short problem statement: the real one is known only when the problems are made."""


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

    ``gpu_bytes`` (on the fullest GPU) and ``gpu_hours`` are of training with a NeMo backend, ``preset``
    is the layout that conf/ has for the model. ``sampling`` has an entry for each model that is sampled.
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
    sampling: tuple[SamplingCost, ...] = ()
    preset: NamedLayout | None = None


def estimate(
    cfg: Config,
    model_directory: Path | None,
    num_heldout: int | None,
    *,
    num_train: int | None = None,
    preset: NamedLayout | None = None,
) -> Estimate:
    """Estimate ``cfg`` with the model in ``model_directory`` (None: not there yet).

    ``num_train`` and ``num_heldout`` count problems (None: not known yet).
    """
    prompt = math.ceil((len(cfg.model.prompt) + _PROBLEM_CHARACTERS) / _CHARACTERS_PER_TOKEN)
    length = cfg.curate.target_tokens + prompt
    sequences = _sequences_per_step(cfg)
    shape = read_shape(model_directory) if model_directory else None
    planned = planned_shape(cfg, model_directory)
    count = shape.parameters if shape else parameters(planned) if planned else None
    tokens = sequences * length
    trains = "train" in cfg.launcher.stages
    tokens_in_all = tokens * cfg.train.max_steps
    flops = train_flops(cfg.train, planned, count, tokens_in_all) if count and trains else None
    again = forward_flops(count, tokens_in_all) if count else 0.0
    sampling = sampling_costs(cfg, prompt, num_train, num_heldout)
    evaluated = [cost.tokens_at_most for cost in sampling if cost.stage == "evaluate"]
    return Estimate(
        prompt_tokens=prompt,
        tokens_per_step=tokens,
        packs_per_step=math.ceil(sequences / max(1, cfg.pack.capacity_tokens // length)),
        parameters=count,
        train_flops=flops,
        train_bytes=_local_bytes(cfg, shape, tokens) if trains else None,
        gpu_bytes=_gpu_bytes(cfg, planned) if trains else None,
        gpu_hours=gpu_hours(cfg.train, flops, again) if flops and isinstance(cfg.train, NemoTrain) else None,
        disk_bytes=disk_bytes(count, cfg.train) if count and trains else None,
        sampled_tokens_at_most=None if None in evaluated else sum(n for n in evaluated if n),
        shape=shape,
        sampling=sampling,
        preset=preset,
    )


def num_problems(cfg: Config) -> int | None:
    """Training problems; None where a file is not there."""
    if isinstance(cfg.problems, ChainSumProblems):
        return cfg.problems.num_train
    path = user_path(cfg.problems.train_path) if isinstance(cfg.problems, FileProblems) else None
    return rows_of(path) if path else None


def rows_of(path: Path) -> int | None:
    """Rows of a JSON-lines file; None where there is none, also where another job takes it away meanwhile."""
    try:
        return count_rows(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def _sequences_per_step(cfg: Config) -> int:
    whole = cfg.train.global_batch_size
    return whole if cfg.train.batching == "literal" else min(cfg.curate.num_traces, whole)


def _local_bytes(cfg: Config, shape: Shape | None, tokens: int) -> int | None:
    if shape is None or not isinstance(cfg.train, LocalTrain):
        return None
    return train_bytes(shape, cfg.train, min(tokens, cfg.pack.capacity_tokens))


def planned_shape(cfg: Config, model_directory: Path | None) -> ModelShape | None:
    """model.shape, or else what config.json in ``model_directory`` tells; None without either."""
    config = read_config(model_directory) if model_directory and cfg.model.shape is None else None
    return shape_of(config) if config else cfg.model.shape


def _gpu_bytes(cfg: Config, shape: ModelShape | None) -> float | None:
    train = cfg.train
    if not isinstance(train, NemoTrain) or shape is None:
        return None
    if train.layout.world_size % train.layout.model_parallel_size:
        return None  # the rule nemo_copies says so
    return gpu_memory(shape, train.layout, train.lora, cfg.pack.capacity_tokens).total


def train_flops(train: TrainConfig, shape: ModelShape | None, parameters: int, tokens: int) -> float:
    """Operations of training on ``tokens``, without what activation checkpointing computes again.

    2 x parameters a token forward, 2 for the gradients of the activations and 2 for those of the
    weights (Kaplan et al., arXiv 2001.08361). Adapters (LoRA, arXiv 2106.09685) leave the base
    weights as they are, whose gradients are not computed: 4 x parameters + 6 x the adapters' own.
    """
    if not isinstance(train, NemoTrain) or not train.lora.enabled:
        return 6.0 * parameters * tokens
    adapters = shape.layers * adapter_parameters(shape, train.lora) if shape else 0
    return (4.0 * parameters + 6.0 * adapters) * tokens


def forward_flops(parameters: int, tokens: int) -> float:
    """Operations of one forward pass over ``tokens``."""
    return 2.0 * parameters * tokens


def gpu_hours(train: NemoTrain, flops: float, forward: float) -> float:
    """Hours x GPUs of training, start-up and saving not counted.

    At UTILISATION of an H100 SXM's dense bf16 peak; full activation checkpointing computes the
    ``forward`` pass (operations) twice.
    """
    again = forward if train.layout.checkpoint_activations == "full" else 0.0
    return (flops + again) / (UTILISATION * H100_BF16_FLOPS) / 3600


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
    config = read_config(folder)
    if config is None:
        return None
    try:
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
