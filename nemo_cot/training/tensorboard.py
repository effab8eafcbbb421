"""TensorBoard, behind train.tensorboard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from nemo_cot.errors import UserError


@contextlib.contextmanager
def open_tensorboard(folder: Path, *, enabled: bool) -> Iterator[Callable[[dict], None]]:
    """Yield a function that logs one row of metrics; it does nothing unless enabled.

    Raises UserError when the package tensorboard is not installed.
    """
    if not enabled:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "the package tensorboard is not installed",
            where="train.tensorboard=true",
            fix="pip install -e '.[tensorboard]' in the clone, or train.tensorboard=false",
        ) from None
    with SummaryWriter(str(folder)) as writer:
        yield lambda row: [
            writer.add_scalar(f"train/{k}", v, row["step"]) for k, v in row.items() if k != "step"
        ]
