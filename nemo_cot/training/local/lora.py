"""Adapters on the local trainer's model, by peft, and their product added to the base weights at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nemo_cot.errors import UserError
from nemo_cot.models.attention import PACKED
from nemo_cot.models.loading import load_model
from nemo_cot.training.lora import LoraConfig

if TYPE_CHECKING:
    from peft import LoraConfig as PeftConfig

_MODULES = {
    "attention_qkv": ("q_proj", "k_proj", "v_proj"),
    "attention_dense": ("o_proj",),
    "mlp_fc1": ("gate_proj", "up_proj"),
    "mlp_fc2": ("down_proj",),
}
"""Hugging Face's names of the modules that Megatron calls so; each gets an adapter of its own there."""


def add_adapters(model: torch.nn.Module, lora: LoraConfig, seed: int) -> torch.nn.Module:
    """Put adapters on ``model``, in place, and freeze the rest. A is Kaiming-uniform by ``seed``, B is 0."""
    from peft import inject_adapter_in_model

    torch.manual_seed(seed)
    # The seed is for CPU and GPU alike, so that a run's start does not depend on where the model is.
    return inject_adapter_in_model(peft_config(lora), model)


def peft_config(lora: LoraConfig) -> PeftConfig:
    """``lora`` as peft writes it."""
    from peft import LoraConfig as PeftConfig

    modules = [name for chosen in lora.target_modules for name in _MODULES[chosen]]
    return PeftConfig(r=lora.dim, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules)


@torch.no_grad()
def merged(base: Path, adapters: Mapping[str, torch.Tensor], lora: LoraConfig) -> torch.nn.Module:
    """The model in ``base`` in float32, each adapted weight plus (alpha / dim) B A (arXiv 2106.09685, section 4.1).

    ``adapters``: the float32 masters, by the names that :func:`add_adapters` gave them. Raises UserError for
    an adapter whose weight the base lacks.
    """
    model = load_model(base, precision="fp32", attention=PACKED, device=torch.device("cpu"))
    for name, first in adapters.items():
        module, found, rest = name.partition(".lora_A.")
        if not found:
            continue
        second = adapters[f"{module}.lora_B.{rest}"]
        try:
            weight = model.get_submodule(module).weight
        except AttributeError:
            raise UserError(f"no weight for the adapter {module}", where=str(base), fix="train again") from None
        weight += (lora.alpha / lora.dim) * (second.cpu() @ first.cpu())
    return model
