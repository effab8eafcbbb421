"""Rules for the NeMo backends. docs/nemo.md says which trap each one is for.

What the renderers and the packed file already make impossible has no rule here. Each rule says
that it does not apply under train.backend=local.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from nemo_cot.config import Config
from nemo_cot.config.cluster import SlurmCluster
from nemo_cot.config.model import ModelShape
from nemo_cot.errors import UserError
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.preflight.nemo_memory import GIB, gpu_memory
from nemo_cot.training.nemo.config import AlignerTrain, NemoRlTrain, NemoTrain

Found = Iterator[tuple[str, str, str]]


def _for(kind: type) -> Callable[[Callable[..., Found]], Callable[[Config, Estimate], Found]]:
    """Give the rule ``cfg.train`` of ``kind``, or report that it does not apply."""

    def decorate(rule: Callable[..., Found]) -> Callable[[Config, Estimate], Found]:
        @wraps(rule)
        def run(cfg: Config, estimate: Estimate) -> Found:
            if isinstance(cfg.train, kind):
                yield from rule(cfg, cfg.train, estimate)
            else:
                yield "ok", f"does not apply: train.backend={cfg.train.backend}", ""

        return run

    return decorate


@_for(NemoTrain)
def _nemo_copies(cfg: Config, train: NemoTrain, _: Estimate) -> Found:
    """The GPUs make whole copies of the model."""
    try:
        _ = train.layout.data_parallel_size
    except UserError as error:
        yield "error", error.what, error.fix


@_for(NemoTrain)
def _nemo_heads(cfg: Config, train: NemoTrain, estimate: Estimate) -> Found:
    """Tensor parallelism divides the attention heads and the key-value heads, pipeline the layers."""
    shape = _shape(cfg, estimate)
    if shape is None:
        yield (
            "warning",
            "the model's shape is not known yet: heads, layers and GPU memory are not checked",
            "give model.shape",
        )
        return
    tensor, pipeline = train.layout.tensor_model_parallel_size, train.layout.pipeline_model_parallel_size
    if shape.heads % tensor or shape.kv_heads % tensor:
        yield (
            "error",
            f"TP {tensor} does not divide {shape.heads} attention heads and {shape.kv_heads} key-value heads",
            f"set train.layout.tensor_model_parallel_size to a divisor of {shape.kv_heads}",
        )
    if shape.layers % pipeline:
        yield (
            "error",
            f"PP {pipeline} does not divide {shape.layers} layers",
            f"set train.layout.pipeline_model_parallel_size to a divisor of {shape.layers}",
        )


@_for(NemoTrain)
def _nemo_sequence_parallel(cfg: Config, train: NemoTrain, _: Estimate) -> Found:
    """Sequence parallelism has tensor parallelism to ride on."""
    if train.layout.sequence_parallel and train.layout.tensor_model_parallel_size == 1:
        yield (
            "error",
            "sequence parallelism needs TP > 1",
            "set train.layout.sequence_parallel=false, or raise train.layout.tensor_model_parallel_size",
        )


@_for(AlignerTrain)
def _nemo_micro_batch(cfg: Config, train: AlignerTrain, _: Estimate) -> Found:
    """A micro batch is one pack."""
    if train.micro_batch_size != 1:
        yield (
            "error",
            f"a micro batch of {train.micro_batch_size}: packed rows go one at a time",
            "set train.micro_batch_size=1",
        )


@_for(NemoTrain)
def _nemo_batch_ranks(cfg: Config, train: NemoTrain, _: Estimate) -> Found:
    """The global batch goes round the data-parallel ranks evenly."""
    try:
        ranks = train.layout.data_parallel_size
    except UserError:
        return  # nemo_copies says so
    each = train.micro_batch_size * ranks
    if isinstance(train, NemoRlTrain) and train.global_batch_size % each:
        yield (
            "error",
            f"{train.global_batch_size} sequences do not divide among {ranks} ranks "
            f"in micro batches of {train.micro_batch_size}",
            f"set train.global_batch_size to a multiple of {each}",
        )
    sequences = (
        train.global_batch_size
        if train.batching == "literal"
        else min(cfg.curate.num_traces, train.global_batch_size)
    )
    if isinstance(train, AlignerTrain) and sequences < ranks:
        yield (
            "error",
            f"{sequences} sequences a step for {ranks} ranks: some would have no pack",
            "set train.batching=literal, raise train.global_batch_size, or lower train.layout.num_nodes",
        )


@_for(NemoTrain)
def _nemo_width(cfg: Config, train: NemoTrain, _: Estimate) -> Found:
    """The widest batch divides among the tensor- and context-parallel ranks."""
    layout = train.layout
    multiple = layout.width_multiple if isinstance(train, AlignerTrain) else layout.sequence_multiple
    if cfg.pack.capacity_tokens % multiple:
        yield (
            "error",
            f"widths are rounded up to {multiple} tokens, and pack.capacity_tokens {cfg.pack.capacity_tokens} "
            "is not a multiple: NeMo-Aligner cuts the widest batch, NeMo-RL finds no room for the longest trace",
            f"set pack.capacity_tokens to {-(-cfg.pack.capacity_tokens // multiple) * multiple}",
        )


@_for(NemoTrain)
def _nemo_schedule(cfg: Config, train: NemoTrain, _: Estimate) -> Found:
    """The learning rate reaches its height and comes down within the run."""
    sched = train.optim.sched
    if sched.warmup_steps >= train.max_steps:
        yield (
            "error",
            f"{sched.warmup_steps} warm-up steps of {train.max_steps}: the rate never comes down",
            f"set train.optim.sched.warmup_steps below {train.max_steps}",
        )
    if sched.name != "constant" and sched.min_lr > 0.5 * train.optim.lr:
        yield (
            "warning",
            f"the {sched.name} schedule ends at {sched.min_lr:g} of {train.optim.lr:g}",
            "lower train.optim.sched.min_lr, or set train.optim.sched.name=constant",
        )


@_for(NemoTrain)
def _nemo_save_points(cfg: Config, train: NemoTrain, _: Estimate) -> Found:
    """A checkpoint is written before the last step, so that a requeued job has one to resume from."""
    if train.save_interval_steps >= train.max_steps:
        yield (
            "warning",
            f"a save every {train.save_interval_steps} of {train.max_steps} steps: only the end is saved",
            f"set train.save_interval_steps below {train.max_steps}",
        )


@_for(NemoTrain)
def _nemo_precision(cfg: Config, train: NemoTrain, _: Estimate) -> Found:
    """Packed attention is computed in a type that its kernels have."""
    if train.precision != "bf16":
        yield (
            "error",
            f"Transformer Engine's packed attention has no {train.precision} kernel",
            "set train.precision=bf16",
        )


@_for(NemoTrain)
def _nemo_loss_weights(cfg: Config, train: NemoTrain, _: Estimate) -> Found:
    """Every trained token counts as much as it is meant to."""
    if isinstance(train, NemoRlTrain):
        if train.batching == "distinct":
            yield "error", "NeMo-RL gives every row the weight 1", "set train.batching=literal"
    elif train.batching == "distinct" or cfg.pack.strategy not in ("shuffle", "in_order"):
        yield (
            "warning",
            f"Aligner's loss is the mean over each pack, then over packs: with {train.batching} batches and "
            f"pack.strategy={cfg.pack.strategy} the same traces always share a pack, and weigh unequally "
            "(docs/packing.md)",
            "set train.batching=literal and pack.strategy=shuffle",
        )


@_for(AlignerTrain)
def _nemo_model(cfg: Config, train: AlignerTrain, _: Estimate) -> Found:
    """The base model is there in NeMo's format, or is converted."""
    if (
        train.nemo_model is None
        and "train" in cfg.launcher.stages
        and "hf_to_nemo" not in cfg.launcher.stages
    ):
        yield (
            "error",
            "no base model in NeMo's format, and no stage that converts it",
            "add hf_to_nemo to launcher.stages, or set train.nemo_model",
        )
    elif train.nemo_model is not None and not Path(train.nemo_model).expanduser().exists():
        yield (
            "warning",
            f"there is no {train.nemo_model} here",
            "correct train.nemo_model, unless the container mounts it there",
        )


@_for(NemoTrain)
def _nemo_conversion(cfg: Config, train: NemoTrain, estimate: Estimate) -> Found:
    """The trained model can be converted back, from steps that are saved and kept."""
    if isinstance(train, AlignerTrain) and "nemo_to_hf" in cfg.launcher.stages:
        shape = _shape(cfg, estimate)
        if train.lora.enabled:
            yield (
                "error",
                "NeMo-Aligner saves adapters alone, and the converter does not merge them",
                "set train=nemo_rl for adapters, or take nemo_to_hf and the trained subject out "
                "(launcher.stages, evaluate.subjects=[base])",
            )
        if cfg.model.shape is not None and shape is not None and shape.tied_embeddings:
            yield (
                "error",
                "NeMo-Skills' converters train two embeddings of a model that ties them, and keep one",
                "choose a model with model.shape.tied_embeddings=false, or train=nemo_rl",
            )
    kept = _kept_steps(train)
    if lost := sorted(set(train.conversion.average_steps) - set(kept)):
        yield (
            "error",
            f"step {lost[0]} is not among the steps that are saved and kept, {kept}",
            "correct train.conversion.average_steps, train.save_interval_steps or train.save_top_k",
        )


def _kept_steps(train: NemoTrain) -> list[int]:
    """The latest train.save_top_k multiples of the interval; both backends save the last step too."""
    saved = list(range(train.save_interval_steps, train.max_steps + 1, train.save_interval_steps))
    return sorted({*saved, train.max_steps})[-train.save_top_k :]


@_for(NemoTrain)
def _nemo_adapter_dropout(cfg: Config, train: NemoTrain, _: Estimate) -> Found:
    """Repeated traces are computed once only where each repeat would compute the same."""
    if train.batching == "distinct" and train.lora.enabled and train.lora.dropout > 0:
        yield (
            "error",
            f"train.lora.dropout {train.lora.dropout}: distinct batching stands for draws that are all alike",
            "set train.lora.dropout=0, or train.batching=literal",
        )


@_for(NemoRlTrain)
def _nemo_ray(cfg: Config, train: NemoRlTrain, _: Estimate) -> Found:
    """NeMo-RL's nodes are one Ray cluster, which a submitted job does not start."""
    if train.layout.num_nodes > 1 and isinstance(cfg.cluster, SlurmCluster):
        yield (
            "error",
            f"train.layout.num_nodes {train.layout.num_nodes}: a submitted job starts Ray on one node only",
            "set train.layout.num_nodes=1 (with a smaller model, or train.lora.enabled=true), or start a Ray "
            "cluster over the nodes by hand and run recipes/train.py there",
        )


@_for(NemoRlTrain)
def _nemo_ray_neighbours(cfg: Config, train: NemoRlTrain, _: Estimate) -> Found:
    """No other job's Ray finds ours on its node."""
    if isinstance(cfg.cluster, SlurmCluster) and not cfg.cluster.exclusive:
        yield (
            "error",
            "another job on the node that looks for Ray, as NeMo-RL does, would join this training's cluster "
            "and take its GPUs",
            "set cluster.exclusive=true",
        )


@_for(NemoTrain)
def _nemo_gpu_memory(cfg: Config, train: NemoTrain, estimate: Estimate) -> Found:
    """Training fits the GPUs' memory."""
    shape = _shape(cfg, estimate)
    if shape is None or train.layout.world_size % train.layout.model_parallel_size:
        yield "unknown", "see nemo_heads and nemo_copies", ""
        return
    memory = gpu_memory(shape, train.layout, train.lora, cfg.pack.capacity_tokens)
    if memory.total > train.layout.gpu_memory_gib * GIB:
        parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in vars(memory).items())
        yield (
            "error",
            f"the fullest GPU needs about {memory.total / GIB:.1f} of {train.layout.gpu_memory_gib} GiB "
            f"({parts})",
            "raise train.layout.num_nodes or a train.layout.*_parallel_size, lower pack.capacity_tokens, "
            "or train adapters (train=nemo_rl train.lora.enabled=true: NeMo-Aligner's are not merged)",
        )
    if isinstance(train, AlignerTrain) and not train.megatron_amp_O2:
        yield (
            "warning",
            "without O2 the weights stay fp32 and are cast anew each step: more memory than the estimate",
            "set train.megatron_amp_O2=true",
        )


def _shape(cfg: Config, estimate: Estimate) -> ModelShape | None:
    """The configured shape, or that of the model's own files (counted with untied embeddings: the larger)."""
    if cfg.model.shape is not None or estimate.shape is None:
        return cfg.model.shape
    own: dict[str, Any] = {
        name: value for name, value in vars(estimate.shape).items() if name != "parameters"
    }
    return ModelShape(**own, qkv_bias=False, tied_embeddings=False)


NEMO_RULES = (
    _nemo_copies,
    _nemo_heads,
    _nemo_sequence_parallel,
    _nemo_micro_batch,
    _nemo_batch_ranks,
    _nemo_width,
    _nemo_schedule,
    _nemo_save_points,
    _nemo_precision,
    _nemo_loss_weights,
    _nemo_model,
    _nemo_conversion,
    _nemo_adapter_dropout,
    _nemo_ray,
    _nemo_ray_neighbours,
    _nemo_gpu_memory,
)
