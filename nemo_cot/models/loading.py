"""Load a local Hugging Face directory."""

from __future__ import annotations

from pathlib import Path

import torch

from nemo_cot.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU. Raises UserError for CUDA without one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "no CUDA GPU is visible to torch",
            where="device=cuda",
            fix="use device=auto or cpu, or install a CUDA build of torch",
        )
    return torch.device(device)


def load_model(folder: Path, *, precision: str, attention: str, device: torch.device) -> torch.nn.Module:
    """The causal language model in ``folder``, never downloaded, in eval mode on ``device``."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=DTYPES[precision],
        attn_implementation=attention,
        local_files_only=True,
        trust_remote_code=False,
    )
    _refuse_unsupported(model, folder)
    return model.to(device).eval()


_UNSUPPORTED = ("final_logit_softcapping", "attn_logit_softcapping", "logits_scaling", "logit_scale")
"""Config fields that change logits or attention scores outside the two places this project computes them."""


def _refuse_unsupported(model: torch.nn.Module, folder: Path) -> None:
    """Raise UserError for a model that would train on another loss than its own, in silence."""
    fields = model.config.to_dict()
    odd = [f"{key}={fields[key]}" for key in _UNSUPPORTED if fields.get(key) not in (None, 1, 1.0)]
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        odd.append("a vocabulary projection with a bias")
    if odd:
        raise UserError(
            f"the local engine does not compute {odd[0]} ({model.config.model_type})",
            where=str(folder),
            fix="use a Llama, Qwen2 or Mistral model",
        )
