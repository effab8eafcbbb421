"""Load a local Hugging Face directory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from nemo_cot.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def resolve_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU. Raises UserError for CUDA without one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA GPU is visible to torch", where="device=cuda",
                        fix="use device=auto or cpu, or install a CUDA build of torch")
    return torch.device(device)


def load_model(folder: Path, *, precision: str, attention: str, device: torch.device) -> torch.nn.Module:
    """The causal language model in ``folder``, never downloaded, in eval mode on ``device``."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=DTYPES[precision], attn_implementation=attention, local_files_only=True
    )
    return model.to(device).eval()
