"""Checkpoints of the optimizer's whole state; a resumed run goes on exactly."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from nemo_cot.errors import UserError
from nemo_cot.io.atomic import sync_directory

_PREFIX = "step-"
_FILE = "state.safetensors"


def save_checkpoint(folder: Path, step: int, tensors: dict[str, torch.Tensor]) -> None:
    """Write ``folder``/step-N atomically, then remove the older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    final, temporary = folder / f"{_PREFIX}{step:08d}", folder / "writing"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_file({name: t.detach().contiguous().cpu() for name, t in tensors.items()}, temporary / _FILE)
    _sync_file(temporary / _FILE)
    os.rename(temporary, final)
    sync_directory(folder)
    for old in folder.glob(f"{_PREFIX}*"):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def latest_step(folder: Path) -> int:
    """The step of the newest checkpoint, 0 without one."""
    whole = (p.parent.name for p in folder.glob(f"{_PREFIX}*/{_FILE}"))
    return max((int(name.removeprefix(_PREFIX)) for name in whole), default=0)


def load_checkpoint(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """The tensors of one checkpoint. Raises UserError for a damaged file."""
    path = folder / f"{_PREFIX}{step:08d}" / _FILE
    try:
        with safe_open(path, framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # safetensors raises its own and OSError
        raise UserError(
            f"damaged checkpoint ({error})",
            where=str(path),
            fix=f"remove {path.parent}; training starts again",
        ) from None


def _sync_file(path: Path) -> None:
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())
