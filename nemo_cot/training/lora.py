"""Low-rank adapters, as every backend that trains them understands train.lora. Values: conf/train/lora."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nemo_cot.config import Config, TrainConfig
from nemo_cot.config.checks import at_least, between, one_of
from nemo_cot.config.model import ModelShape
from nemo_cot.config.rule import Found, rule
from nemo_cot.errors import UserError
from nemo_cot.training.backend import TrainingCost

LORA_MODULES = ("attention_qkv", "attention_dense", "mlp_fc1", "mlp_fc2")
"""Megatron's names; Hugging Face's are in nemo_cot/training/local/lora.py."""


@dataclass
class LoraConfig:
    """Low-rank adapters (arXiv 2106.09685) on every layer's ``target_modules``, in Megatron's names."""

    enabled: bool
    dim: int
    alpha: int
    dropout: float
    target_modules: list[str]

    def __post_init__(self) -> None:
        at_least("train.lora.dim", self.dim, 1)
        at_least("train.lora.alpha", self.alpha, 1)
        between("train.lora.dropout", self.dropout, 0.0, 1.0)
        for name in self.target_modules:
            one_of("train.lora.target_modules", name, LORA_MODULES)
        if self.enabled and not self.target_modules:
            raise UserError(
                "adapters on nothing",
                where="train.lora.target_modules",
                fix=f"choose among {', '.join(LORA_MODULES)}",
            )


def no_adapters(lora: Mapping[str, Any]) -> bool:
    """Whether a stage's train.lora means what was done before the key came: adapters on nothing."""
    return not lora["enabled"]


def adapter_parameters(shape: ModelShape, lora: LoraConfig) -> int:
    """Parameters of one layer's adapters: dim x (inputs + outputs) for each module they are on."""
    qkv = shape.hidden + 2 * shape.kv_width
    sides = {
        "attention_qkv": shape.hidden + qkv,
        "attention_dense": 2 * shape.hidden,
        "mlp_fc1": shape.hidden + 2 * shape.intermediate,
        "mlp_fc2": shape.intermediate + shape.hidden,
    }
    return lora.dim * sum(sides[name] for name in lora.target_modules)


def with_adapters(cost: TrainingCost, train: TrainConfig, tokens: int) -> TrainingCost:
    """``cost`` of training on ``tokens`` per step where only adapters are trained: the base weights stay as they
    are, so that their gradients are not computed: 4 x parameters + 6 x the adapters' own.
    """
    shape, count = cost.model.shape, cost.model.parameters
    if not train.lora.enabled or count is None or cost.operations is None:
        return cost
    adapters = shape.layers * adapter_parameters(shape, train.lora) if shape else 0
    operations = (4.0 * count + 6.0 * adapters) * tokens * train.max_steps
    return replace(cost, operations=operations, formula="(4 x parameters + 6 x adapters) x tokens")


@rule("train")
def adapter_dropout(cfg: Config, train: TrainConfig, _: object) -> Found:
    """Repeated traces are computed once only where each repeat would compute the same."""
    if train.batching == "distinct" and train.lora.enabled and train.lora.dropout > 0:
        yield (
            "error",
            f"train.lora.dropout {train.lora.dropout}: distinct batching stands for draws that are all alike",
            "set train.lora.dropout=0, or train.batching=literal",
        )
