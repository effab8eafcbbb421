"""What the schemas of both NeMo backends share: layouts, adapters, conversion. Values: conf/train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nemo_cot.config import TrainConfig
from nemo_cot.config.checks import added, at_least, between, one_of, runtime
from nemo_cot.config.overrides import flat
from nemo_cot.errors import UserError
from nemo_cot.training.lora import LoraConfig


@dataclass
class LayoutConfig:
    """How a model lies on the GPUs: nodes, Megatron's parallel sizes, activation checkpointing.

    ``checkpoint_activations``: none; selective (the attention core is computed again); full
    (each layer is computed again from its input). ``distributed_optimizer`` deals the optimizer's
    state out over the data-parallel ranks. ``gpu_memory_gib`` is what the driver reports of a GPU,
    ``reserved_memory_gib`` what of it is kept for CUDA, NCCL, workspaces and fragmentation.
    """

    num_nodes: int
    gpus_per_node: int
    tensor_model_parallel_size: int
    pipeline_model_parallel_size: int
    context_parallel_size: int
    sequence_parallel: bool
    checkpoint_activations: str
    distributed_optimizer: bool
    gpu_memory_gib: float
    reserved_memory_gib: float

    def __post_init__(self) -> None:
        for key in (
            "num_nodes",
            "gpus_per_node",
            "tensor_model_parallel_size",
            "pipeline_model_parallel_size",
            "context_parallel_size",
        ):
            at_least(f"train.layout.{key}", getattr(self, key), 1)
        one_of(
            "train.layout.checkpoint_activations", self.checkpoint_activations, ("none", "selective", "full")
        )
        between("train.layout.reserved_memory_gib", self.reserved_memory_gib, 0.0, self.gpu_memory_gib)

    @property
    def world_size(self) -> int:
        """GPUs in all."""
        return self.num_nodes * self.gpus_per_node

    @property
    def model_parallel_size(self) -> int:
        """GPUs that hold one copy of the model: TP x PP x CP."""
        return (
            self.tensor_model_parallel_size * self.pipeline_model_parallel_size * self.context_parallel_size
        )

    @property
    def data_parallel_size(self) -> int:
        """Copies of the model. Raises UserError when the GPUs do not make whole copies."""
        if self.world_size % self.model_parallel_size:
            raise UserError(
                f"{self.world_size} GPUs make no whole copies of {self.model_parallel_size} (TP x PP x CP)",
                where="train.layout",
                fix="change train.layout.num_nodes or a *_parallel_size so that the product divides the GPUs",
            )
        return self.world_size // self.model_parallel_size


@dataclass
class ConversionConfig:
    """Back to Hugging Face: the mean of the weights of ``average_steps``; [] for the last step alone."""

    average_steps: list[int]

    def __post_init__(self) -> None:
        if len(self.average_steps) == 1 or len(set(self.average_steps)) != len(self.average_steps):
            raise UserError(
                f"{self.average_steps} names one step, or one twice",
                where="train.conversion.average_steps",
                fix="name two or more saved steps, or [] for the last one",
            )


@dataclass
class NemoTrain(TrainConfig):
    """What both NeMo backends need. ``max_time_per_run``: DD:HH:MM:SS, then it saves and stops.

    ``conversion`` is of the stage nemo_to_hf, and no reason to train again. ``srun_arguments``: of the srun
    that starts training inside a Slurm job; they may name the container. ``overrides``: keys of the backend's own
    config, dotted or nested, laid over what is rendered.
    """

    layout: LayoutConfig
    lora: LoraConfig
    micro_batch_size: int
    save_top_k: int = runtime()
    max_time_per_run: str = runtime()
    num_workers: int = runtime()
    srun_arguments: list[str] = runtime()  # noqa: RUF009
    conversion: ConversionConfig = runtime()  # noqa: RUF009
    overrides: dict[str, Any] = added({})  # noqa: RUF009

    def __post_init__(self) -> None:
        super().__post_init__()
        self.overrides = flat(self.overrides)
        at_least("train.micro_batch_size", self.micro_batch_size, 1)
        one_of("train.objective", self.objective, (self.own_objective,))
        at_least("train.save_top_k", self.save_top_k, 0)
        at_least("train.num_workers", self.num_workers, 0)
        at_least("train.max_time_per_run, in seconds", seconds_of(self.max_time_per_run), 1)

    @property
    def kept_saves(self) -> int:
        """Checkpoints that stay: with save_top_k 0 or 1 the newest alone, from which a training goes on."""
        return max(1, self.save_top_k)

    @property
    def save_steps(self) -> list[int]:
        """The steps whose checkpoints are saved: one every save_interval_steps, and the last."""
        every = range(self.save_interval_steps, self.max_steps + 1, self.save_interval_steps)
        return sorted({*every, self.max_steps})

    @property
    def kept_steps(self) -> list[int]:
        """Those of them that stay: the newest."""
        return self.save_steps[-self.kept_saves :]

    @property
    def own_objective(self) -> str:
        """The one loss that the backend computes; it cannot be chosen."""
        raise NotImplementedError

    @property
    def width_multiple(self) -> int:
        """What the width of a batch, or of a sequence in it, is rounded up to, in tokens."""
        raise NotImplementedError


def seconds_of(duration: str) -> int:
    """Seconds of DD:HH:MM:SS, the form of exp_manager.max_time_per_run. Raises UserError."""
    parts = duration.split(":")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
        raise UserError(
            f"{duration!r} is not days:hours:minutes:seconds",
            where="train.max_time_per_run",
            fix="for example 00:03:45:00",
        )
    days, hours, minutes, seconds = map(int, parts)
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
