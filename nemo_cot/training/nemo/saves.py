"""What the checkpoints of Megatron training cost: bytes written and time; and what an optimizer's state takes."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.config.model import ModelShape
from nemo_cot.training.nemo.config import NemoTrain
from nemo_cot.training.nemo.memory import adapter_parameters

SAVED = 2 + 4 + 8
"""Bytes per trained parameter of a checkpoint: bf16 weight, fp32 master weight, two fp32 moments."""
STATE = 4 + 8
"""Bytes per trained parameter of the optimizer: fp32 master weight and two fp32 moments."""
BYTES_PER_SECOND = 2e9
"""Of a shared file system to one job; assumed, not measured. With zarr it was a fraction of that."""


@dataclass(frozen=True)
class Saves:
    """``count`` checkpoints, each written once: ``bytes_each``, in all ``written_bytes`` and ``seconds``.

    Training stands still meanwhile: no backend here saves in the background.
    """

    count: int
    bytes_each: int

    @property
    def written_bytes(self) -> int:
        """Of the whole training."""
        return self.count * self.bytes_each

    @property
    def seconds(self) -> float:
        """At BYTES_PER_SECOND."""
        return self.written_bytes / BYTES_PER_SECOND


def saves_of(train: NemoTrain, shape: ModelShape) -> Saves:
    """Those of ``train.save_steps``. LoRA's hold the adapters alone."""
    return Saves(len(train.save_steps), SAVED * trained_parameters(train, shape))


def trained_parameters(train: NemoTrain, shape: ModelShape) -> int:
    """All of the model's, or those of its adapters."""
    adapters = shape.layers * adapter_parameters(shape, train.lora)
    return adapters if train.lora.enabled else shape.parameters
