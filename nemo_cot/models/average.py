"""The mean of several models' weights, a shard at a time."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nemo_cot.errors import UserError
from nemo_cot.models.tensors import Tensor, tensor_index
from nemo_cot.progress import track


def average_models(folders: Sequence[Path], target: Path) -> None:
    """Write into ``target`` a Hugging Face directory whose weights are the mean of those in ``folders``.

    The mean is taken in float32 and rounded once, to the first folder's type; config and tokenizer
    are the first's, and so is the split into files, of which one at a time is held in memory.
    Raises UserError for fewer than two folders, or other names or shapes than the first's.
    """
    if len(folders) < 2:
        raise UserError(
            f"{len(folders)} models to average", where="average_models", fix="name two or more steps"
        )
    indexes = [tensor_index(folder) for folder in folders]
    for folder, index in zip(folders, indexes):
        _check_same(indexes[0], index, folder)
    shutil.copytree(folders[0], target, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    files = sorted({tensor.file for tensor in indexes[0].values()})
    with track(f"average {len(folders)} checkpoints", len(files), "files") as tracker:
        for number, file in enumerate(files, start=1):
            _write_mean([n for n, t in indexes[0].items() if t.file == file], indexes, target / file.name)
            tracker.update(number)


def _check_same(first: dict[str, Tensor], other: dict[str, Tensor], folder: Path) -> None:
    shapes, others = ({name: t.shape for name, t in index.items()} for index in (first, other))
    if shapes != others:
        odd = sorted(name for name in shapes.keys() | others.keys() if shapes.get(name) != others.get(name))
        raise UserError(
            f"{odd[0]} has shape {others.get(odd[0])}, in the first model {shapes.get(odd[0])}",
            where=str(folder),
            fix="average checkpoints of one run",
        )


def _write_mean(names: Sequence[str], indexes: Sequence[dict[str, Tensor]], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(
        {name: _mean([index[name].file for index in indexes], name) for name in names}, path, {"format": "pt"}
    )


def _mean(files: Sequence[Path], name: str) -> Any:
    """One tensor's mean, shape and type as in the first file."""
    from safetensors import safe_open

    total, dtype = None, None
    for file in files:
        with safe_open(file, framework="pt") as opened:
            tensor = opened.get_tensor(name)
        dtype = dtype or tensor.dtype
        total = tensor.float() if total is None else total.add_(tensor)
    return total.div_(len(files)).to(dtype)
