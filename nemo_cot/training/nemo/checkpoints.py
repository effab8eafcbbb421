"""What a NeMo backend saved: which steps, where, and whether the last one is among them."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from nemo_cot.errors import Unfinished, UserError
from nemo_cot.training.nemo.config import NemoTrain
from nemo_cot.training.nemo_aligner.config import AlignerTrain

CHECKPOINTS = "checkpoints"
LOG_DIRS = {"nemo_aligner": "aligner", "nemo_rl": "nemo_rl"}
"""Folder of a train stage in which the backend writes its logs and checkpoints."""
_STEP = re.compile(r"step=(\d+)")


def saved_steps(train: NemoTrain, folder: Path) -> dict[int, Path]:
    """Step -> checkpoint, of the whole checkpoints in the train stage's ``folder``, in order of steps."""
    checkpoints = folder / LOG_DIRS[train.backend] / CHECKPOINTS
    found = _aligner_steps(checkpoints) if isinstance(train, AlignerTrain) else _rl_steps(checkpoints)
    return dict(sorted(found.items()))


def _aligner_steps(checkpoints: Path) -> dict[int, Path]:
    """Names are those that exp_manager makes of render_aligner's filename: ...-step=20-consumed_samples=...

    Unfinished ones (NeMo marks them with a file NAME-unfinished) do not count; of two of a step,
    the one that ends in -last is the copy.
    """
    paths = sorted(checkpoints.glob("*step=*"), key=lambda path: path.name.endswith("-last"), reverse=True)
    names = {path.name for path in paths}
    whole = [p for p in paths if not p.name.endswith("-unfinished") and f"{p.name}-unfinished" not in names]
    return {int(found.group(1)): path for path in whole if (found := _STEP.search(path.name))}


def _rl_steps(checkpoints: Path) -> dict[int, Path]:
    """step_20/training_info.json says how many steps are in it; tmp_step_20 is not whole yet."""
    found = {}
    for info in checkpoints.glob("step_*/training_info.json"):
        try:
            found[int(json.loads(info.read_text())["total_steps"])] = info.parent
        except (ValueError, KeyError, TypeError):
            raise UserError(
                "damaged checkpoint", where=str(info), fix=f"remove {info.parent}; training resumes before it"
            ) from None
    return found


def check_finished(train: NemoTrain, folder: Path) -> dict[int, Path]:
    """The saved steps. Raises UserError unless the last step is among them: Unfinished, where a step
    was saved to go on from (a job of a chain requeues itself, or the next one goes on).

    Both backends end with exit code 0 at their time limit too, and NeMo-RL also after no step at all.
    """
    steps = saved_steps(train, folder)
    last = max(steps, default=0)
    if last < train.max_steps:
        raise (Unfinished if last else UserError)(
            f"training stopped after step {last} of {train.max_steps}, at train.max_time_per_run",
            where="train",
            fix="run the same command again: it resumes there",
        )
    return steps


def steps_to_convert(train: NemoTrain, saved: Sequence[int]) -> list[int]:
    """The steps that train.conversion.average_steps names, or the last one.

    Raises UserError for a step that was not saved, or was removed since (train.save_top_k).
    """
    chosen = train.conversion.average_steps or [train.max_steps]
    if missing := sorted(set(chosen) - set(saved)):
        raise UserError(
            f"step {missing[0]} is not among the saved ones, {sorted(saved)}",
            where="train.conversion.average_steps",
            fix="name saved steps, or raise train.save_top_k and train again",
        )
    return sorted(chosen)


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
