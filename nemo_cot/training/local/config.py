"""The keys of train=local. Values: conf/train/local.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.config import TrainConfig
from nemo_cot.config.checks import added, one_of, runtime
from nemo_cot.config.engines import DEVICES
from nemo_cot.training.lora import LoraConfig, no_adapters


@dataclass
class LocalTrain(TrainConfig):
    """On transformers: CPU or one GPU. ``keep_checkpoints``: the model is kept every save_interval_steps, to be scored."""

    export_dtype: str
    lora: LoraConfig = added(no_adapters)  # noqa: RUF009
    keep_checkpoints: bool = added(False)
    device: str = runtime()
    activation_checkpointing: bool = runtime()

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("train.objective", self.objective, ("token_mean", "sequence_mean"))
        one_of("train.export_dtype", self.export_dtype, ("float32", "bfloat16"))
        one_of("train.device", self.device, DEVICES)


SCHEMA = LocalTrain
