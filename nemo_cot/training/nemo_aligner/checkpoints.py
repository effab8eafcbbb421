"""What NeMo-Aligner saved: which steps, where, and a checkpoint in the form that the converter reads."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

LOG_DIR = "aligner"
"""Folder of the train stage in which it writes its logs and checkpoints."""
_STEP = re.compile(r"step=(\d+)")


def saved_steps(folder: Path) -> dict[int, Path]:
    """Step -> checkpoint, of the whole checkpoints in the train stage's ``folder``, in order of steps.

    Names are those that exp_manager makes of render_aligner's filename: ...-step=20-consumed_samples=...

    Unfinished ones (NeMo marks them with a file NAME-unfinished) do not count; of two of a step,
    the one that ends in -last is the copy.
    """
    checkpoints = folder / LOG_DIR / "checkpoints"
    paths = sorted(checkpoints.glob("*step=*"), key=lambda path: path.name.endswith("-last"), reverse=True)
    names = {path.name for path in paths}
    whole = [p for p in paths if not p.name.endswith("-unfinished") and f"{p.name}-unfinished" not in names]
    found = {int(step.group(1)): path for path in whole if (step := _STEP.search(path.name))}
    return dict(sorted(found.items()))


def unpacked_view(checkpoint: Path, nemo_base: Path, folder: Path) -> Path:
    """``folder``: a training checkpoint of Aligner's in the form of an unpacked .nemo folder.

    Weights are links into ``checkpoint``, without the optimizer's state; config and tokenizer are
    those of ``nemo_base``, the model that was trained from (a folder or a .nemo file).
    """
    shutil.rmtree(folder, ignore_errors=True)
    weights = folder / "model_weights"
    weights.mkdir(parents=True)
    inner = checkpoint / "model_weights"
    for entry in sorted((inner if inner.is_dir() else checkpoint).iterdir()):
        if not entry.name.startswith("optimizer."):
            (weights / entry.name).symlink_to(entry.resolve())
    _copy_description(nemo_base, folder)
    return folder


def _copy_description(nemo_base: Path, folder: Path) -> None:
    """model_config.yaml and what lies beside it of the tokenizer; no path of an archive is followed."""
    if nemo_base.is_dir():
        for path in nemo_base.iterdir():
            if path.is_file() and path.suffix in _DESCRIPTION:
                shutil.copyfile(path, folder / path.name)
        return
    with tarfile.open(nemo_base) as archive:
        for member in archive:
            name = Path(member.name)
            if member.isfile() and name.suffix in _DESCRIPTION and len(name.parts) == 1:
                (folder / name.name).write_bytes(archive.extractfile(member).read())


_DESCRIPTION = (".yaml", ".json", ".model", ".txt")
