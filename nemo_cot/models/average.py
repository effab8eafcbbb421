"""The mean of several models' weights, a shard at a time, by a program of its own (nemo_cot.models.mean)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.models import mean
from nemo_cot.models.tensors import Tensor, tensor_index
from nemo_cot.progress import track


def average_models(
    folders: Sequence[Path],
    target: Path,
    *,
    python: Sequence[str] = (sys.executable,),
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> None:
    """Write into ``target`` a Hugging Face directory whose weights are the mean of those in ``folders``.

    The mean is taken in float32 and rounded once, to the first folder's type; config and tokenizer
    are the first's, and so is the split into files, of which one at a time is held in memory.
    ``python`` is the command of an interpreter with torch and safetensors, which the caller need not
    have; it runs with ``environment`` (None: the caller's) in ``directory``. Raises UserError for fewer
    than two folders, other names or shapes than the first's, or when that program fails.
    """
    if len(folders) < 2:
        raise UserError(
            f"{len(folders)} models to average", where="average_models", fix="name two or more steps"
        )
    indexes = [tensor_index(folder) for folder in folders]
    for folder, index in zip(folders, indexes):
        _check_same(indexes[0], index, folder)
    shutil.copytree(folders[0], target, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    paths = [str(folder.absolute()) for folder in (target, *folders)]
    command = [*python, str(Path(mean.__file__).resolve()), *paths]
    num_files = len({tensor.file for tensor in indexes[0].values()})
    with track(f"average {len(folders)} checkpoints", num_files, "files") as tracker:
        for number, _ in enumerate(_lines(command, environment, directory), start=1):
            tracker.update(number)


def _lines(
    command: list[str], environment: Mapping[str, str] | None, directory: Path | None
) -> Iterator[str]:
    """What ``command`` prints, a line a file. It is killed when the caller stops."""
    fix = "its own messages are above; train.python must have torch and safetensors"
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
    except OSError as error:
        raise UserError(str(error), where="average_models", fix=fix) from None
    with process:
        try:
            assert process.stdout is not None
            yield from process.stdout
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise UserError(
            f"{command[0]} ended with exit code {process.returncode}", where="average_models", fix=fix
        )


def _check_same(first: dict[str, Tensor], other: dict[str, Tensor], folder: Path) -> None:
    shapes, others = ({name: t.shape for name, t in index.items()} for index in (first, other))
    if shapes != others:
        odd = sorted(name for name in shapes.keys() | others.keys() if shapes.get(name) != others.get(name))
        raise UserError(
            f"{odd[0]} has shape {others.get(odd[0])}, in the first model {shapes.get(odd[0])}",
            where=str(folder),
            fix="average checkpoints of one run",
        )
