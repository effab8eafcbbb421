"""What NeMo-RL saved: which steps, and where."""

from __future__ import annotations

import json
from pathlib import Path

from nemo_cot.errors import UserError

LOG_DIR = "nemo_rl"
"""Folder of the train stage in which it writes its logs and checkpoints."""


def saved_steps(folder: Path) -> dict[int, Path]:
    """Step -> checkpoint, of the whole checkpoints in the train stage's ``folder``, in order of steps.

    step_20/training_info.json says how many steps are in it; tmp_step_20 is not whole yet.
    Raises UserError for a damaged one.
    """
    found = {}
    for info in (folder / LOG_DIR / "checkpoints").glob("step_*/training_info.json"):
        try:
            found[int(json.loads(info.read_text())["total_steps"])] = info.parent
        except (ValueError, KeyError, TypeError):
            raise UserError(
                "damaged checkpoint", where=str(info), fix=f"remove {info.parent}; training resumes before it"
            ) from None
    return dict(sorted(found.items()))


def megatron_folder(step: Path) -> Path:
    """The Megatron folder in NeMo-RL's checkpoint ``step``. Raises UserError unless there is exactly one."""
    return _only_iteration(step / "policy" / "weights")


def megatron_base(folder: Path) -> Path:
    """NeMo-RL's own copy of the base model, which it makes before the first step."""
    found = sorted(folder.glob("*/iter_*")) if folder.is_dir() else []
    return _only_iteration(found[0].parent if found else folder)


def _only_iteration(folder: Path) -> Path:
    found = sorted(folder.glob("iter_*"))
    if len(found) != 1:
        raise UserError(
            f"{len(found)} Megatron checkpoints (iter_*), not 1",
            where=str(folder),
            fix="train again, or convert it by hand (docs/nemo.md)",
        )
    return found[0]
