"""TensorBoard, behind train.tensorboard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.records import StepMetrics


@contextlib.contextmanager
def open_tensorboard(folder: Path, *, enabled: bool) -> Iterator[Callable[[StepMetrics], object]]:
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
            writer.add_scalar(f"train/{name}", value, row.step)
            for name, value in msgspec.structs.asdict(row).items()
            if name != "step"
        ]
