"""Load a local Hugging Face directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nemo_cot.errors import UserError
from nemo_cot.models.check import check_model

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
    """The causal language model in ``folder``, never downloaded, in eval mode on ``device``.

    Raises UserError for one that is not whole, or that is not computed here (nemo_cot.models.check).
    """
    check_model(folder, local=True)
    model = read_weights(
        folder,
        where=folder,
        dtype=DTYPES[precision],
        attn_implementation=attention,
        trust_remote_code=False,
    )
    return model.to(device).eval()


def read_weights(folder: Path, *, where: Path, **options: Any) -> torch.nn.Module:
    """The causal language model that transformers reads from ``folder`` with ``options``, every weight from
    the files in ``where``. Raises UserError when it cannot, and for weights without a place or without a value.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    fix = "copy, convert or install the model again"
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **options
        )
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # it lets through what it meets: KeyError, StrictDataclassError, struct.error
        raise UserError(
            f"transformers cannot load it ({type(error).__name__}: {error})", where=str(where), fix=fix
        ) from error
    odd = {kind: sorted(map(str, names)) for kind, names in info.items() if names}
    both = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    if model.config.tie_word_embeddings and both[0] is not both[1]:
        odd["untied"] = ["lm_head.weight"]
    if odd:
        told = "; ".join(f"{kind.partition('_')[0]} {', '.join(names[:3])}" for kind, names in odd.items())
        raise UserError(f"its weights are not those of its config.json: {told}", where=str(where), fix=fix)
    return model
