"""Rules for both NeMo backends; each package has those of its own. docs/nemo.md says which trap each is for.

What the renderers and the packed file already make impossible has no rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from nemo_cot.config import Config
from nemo_cot.config.rule import GIB, Found, Rule, rule
from nemo_cot.errors import UserError
from nemo_cot.training.backend import TrainingCost, backend_of
from nemo_cot.training.lora import adapter_dropout
from nemo_cot.training.nemo.config import NemoTrain
from nemo_cot.training.nemo.keys import meant
from nemo_cot.training.nemo.layouts import other_preset
from nemo_cot.training.nemo.rendered import ADDED


def nemo_rule(check: Callable[[Config, Any, TrainingCost], Found]) -> Rule:
    """A rule of the stages that NeMo's files pass through; a fix about the layout names the model's own first."""

    @wraps(check)
    def named(cfg: Config, train: NemoTrain, cost: TrainingCost) -> Found:
        wanted = other_preset(train, cost.model.shape)
        for level, what, fix in check(cfg, train, cost):
            yield level, what, f"set {wanted.key}, or {fix}" if wanted and "train.layout." in fix else fix

    return rule("pack", "hf_to_nemo", "train", "nemo_to_hf")(named)


@nemo_rule
def nemo_copies(cfg: Config, train: NemoTrain, _: TrainingCost) -> Found:
    """The GPUs make whole copies of the model."""
    try:
        _ = train.layout.data_parallel_size
    except UserError as error:
        yield "error", error.what, error.fix


@nemo_rule
def nemo_heads(cfg: Config, train: NemoTrain, cost: TrainingCost) -> Found:
    """Tensor parallelism divides the attention heads and the key-value heads, pipeline the layers."""
    shape = cost.model.shape
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


@nemo_rule
def nemo_sequence_parallel(cfg: Config, train: NemoTrain, _: TrainingCost) -> Found:
    """Sequence parallelism has tensor parallelism to ride on."""
    if train.layout.sequence_parallel and train.layout.tensor_model_parallel_size == 1:
        yield (
            "error",
            "sequence parallelism needs TP > 1",
            "set train.layout.sequence_parallel=false, or raise train.layout.tensor_model_parallel_size",
        )


@nemo_rule
def nemo_width(cfg: Config, train: NemoTrain, _: TrainingCost) -> Found:
    """The widest batch divides among the tensor- and context-parallel ranks."""
    multiple = train.width_multiple
    if cfg.pack.capacity_tokens % multiple:
        yield (
            "error",
            f"widths are rounded up to {multiple} tokens, and pack.capacity_tokens {cfg.pack.capacity_tokens} "
            "is not a multiple: NeMo-Aligner cuts the widest batch, NeMo-RL finds no room for the longest trace",
            f"set pack.capacity_tokens to {-(-cfg.pack.capacity_tokens // multiple) * multiple}",
        )


@nemo_rule
def nemo_schedule(cfg: Config, train: NemoTrain, _: TrainingCost) -> Found:
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


@nemo_rule
def nemo_save_points(cfg: Config, train: NemoTrain, _: TrainingCost) -> Found:
    """A checkpoint is written before the last step, so that a requeued job has one to resume from."""
    if train.save_interval_steps >= train.max_steps:
        yield (
            "warning",
            f"a save every {train.save_interval_steps} of {train.max_steps} steps: only the end is saved",
            f"set train.save_interval_steps below {train.max_steps}",
        )


@nemo_rule
def nemo_precision(cfg: Config, train: NemoTrain, _: TrainingCost) -> Found:
    """Packed attention is computed in a type that its kernels have."""
    if train.precision != "bf16":
        yield (
            "error",
            f"Transformer Engine's packed attention has no {train.precision} kernel",
            "set train.precision=bf16",
        )


@nemo_rule
def nemo_gpu_memory(cfg: Config, train: NemoTrain, cost: TrainingCost) -> Found:
    """Training fits the GPUs' memory."""
    shape = cost.model.shape
    if shape is None or train.layout.world_size % train.layout.model_parallel_size:
        yield "unknown", "see nemo_heads and nemo_copies", ""
        return
    memory = backend_of(train).memory(shape, cfg.pack.capacity_tokens)
    if memory.total > train.layout.gpu_memory_gib * GIB:
        parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in vars(memory).items())
        yield (
            "error",
            f"the fullest GPU needs about {memory.total / GIB:.1f} of {train.layout.gpu_memory_gib} GiB "
            f"({parts})",
            "raise train.layout.num_nodes or a train.layout.*_parallel_size, lower pack.capacity_tokens, "
            "train adapters (train=nemo_rl train.lora.enabled=true: NeMo-Aligner's are not merged), or keep the "
            "optimizer's state in host memory (train=nemo_rl train.optimizer_cpu_offload=true)",
        )


@nemo_rule
def nemo_average_steps(cfg: Config, train: NemoTrain, _: TrainingCost) -> Found:
    """The steps whose weights are averaged are saved and kept."""
    kept = train.kept_steps
    if lost := sorted(set(train.conversion.average_steps) - set(kept)):
        yield (
            "error",
            f"step {lost[0]} is not among the steps that are saved and kept, {kept}",
            "correct train.conversion.average_steps, train.save_interval_steps or train.save_top_k",
        )


@rule(always=True)
def nemo_overrides(cfg: Config, train: NemoTrain, _: TrainingCost) -> Found:
    """Keys of train.overrides are the backend's own, and none that a rule goes by."""
    keys, taken = backend_of(train).keys, []
    for name, value in train.overrides.items():
        key, where = name.removeprefix(ADDED), f"train.overrides.{name.removeprefix(ADDED)}"
        if not keys.has(key) and not meant(name):
            near = keys.nearest(key)
            yield (
                "error" if near else "warning",
                f"{where}: {train.backend} has no such key in its list",
                f"{f'did you mean {near}? ' if near else ''}A key that is there all the same: write {ADDED}{key} among "
                "train.overrides in an experiment file",
            )
        elif our := keys.our_key(key):
            yield "warning", f"{where}={value}: rules and estimates go by {our}, which stays as it is", f"set {our}"
        else:
            taken.append(f"{key}={value}")
    if taken:
        yield "ok", f"laid over the rendered config: {', '.join(taken)}", ""


@rule()
def layout_size(cfg: Config, train: NemoTrain, cost: TrainingCost) -> Found:
    """No smaller layout of conf/train/layout takes fewer GPU-hours for the model."""
    here, wanted = train.layout, other_preset(train, cost.model.shape)
    own = wanted.layout if wanted else here
    if wanted and own.world_size < here.world_size and own.gpus_per_node == here.gpus_per_node:
        other = backend_of(replace(train, layout=own))
        hours = other.cost(cfg, cost.model, cost.tokens_per_step).gpu_hours
        if cost.gpu_hours is None or hours is None or hours <= cost.gpu_hours:
            much = "" if hours is None or cost.gpu_hours is None else f": {cost.gpu_hours:.1f} GPU-hours, {hours:.1f} there"
            yield (
                "warning",
                f"{here.num_nodes} nodes for a model that fits {own.num_nodes}{much}",
                f"set {wanted.key}, unless the nodes are meant to make it faster",
            )


NEMO_RULES = (
    nemo_copies, nemo_heads, nemo_sequence_parallel, nemo_width, nemo_schedule, nemo_save_points, nemo_precision,
    adapter_dropout, nemo_gpu_memory, nemo_average_steps, nemo_overrides, layout_size,
)  # fmt: skip
