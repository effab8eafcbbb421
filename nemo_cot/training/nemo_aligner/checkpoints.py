"""What NeMo-Aligner saved: which steps, where, and a checkpoint in the form that the converter reads."""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.training.nemo.rendered import from_yaml, to_yaml

LOG_DIR = "aligner"
"""Folder of the train stage in which it writes its logs and checkpoints."""
_LAST = "-last"
_STEP = re.compile(r"step=(\d+)")


def saved_steps(folder: Path) -> dict[int, Path]:
    """Step -> checkpoint, of the whole checkpoints in the train stage's ``folder``, in order of steps.

    Names are those that exp_manager makes of render_aligner's filename: ...-step=20-consumed_samples=...

    Unfinished ones (NeMo marks them with a file NAME-unfinished) do not count, nor links; of two of a
    step, the one that ends in -last is the copy.
    """
    checkpoints = folder / LOG_DIR / "checkpoints"
    paths = [path for path in checkpoints.glob("*step=*") if not path.is_symlink()]
    paths.sort(key=lambda path: path.name.endswith(_LAST), reverse=True)
    names = {path.name for path in paths}
    whole = [p for p in paths if not p.name.endswith("-unfinished") and f"{p.name}-unfinished" not in names]
    found = {int(step.group(1)): path for path in whole if (step := _STEP.search(path.name))}
    return dict(sorted(found.items()))


def link_newest(folder: Path) -> None:
    """Make NAME-last a link to the newest whole checkpoint NAME: NeMo resumes from what is called so.

    NeMo's own way is to write every checkpoint twice. Called before each attempt, so that a kill between
    any two files leaves at worst a link too many. Copies that an earlier version wrote become what they are
    copies of.
    """
    checkpoints = folder / LOG_DIR / "checkpoints"
    whole = set(saved_steps(folder).values())
    for last in checkpoints.glob(f"*{_LAST}"):
        own = last.with_name(last.name.removesuffix(_LAST))
        if last.is_symlink():
            last.unlink()
        elif last in whole:
            last.rename(own)
        else:
            shutil.rmtree(last)
    if saved := saved_steps(folder):
        newest = saved[max(saved)]
        newest.with_name(newest.name + _LAST).symlink_to(newest.name, target_is_directory=True)


def unpacked_view(checkpoint: Path, nemo_base: Path, folder: Path) -> Path:
    """``folder``: a training checkpoint of Aligner's in the form of an unpacked .nemo folder.

    Weights are links into ``checkpoint``, in zarr without the optimizer's state (of torch_dist's files NeMo
    reads what it asks for); config and tokenizer are those of ``nemo_base``, the model that was trained from
    (a folder or a .nemo file), but for the format of the weights: NeMo reads them as the config says.
    """
    shutil.rmtree(folder, ignore_errors=True)
    weights = folder / "model_weights"
    weights.mkdir(parents=True)
    inner = checkpoint / "model_weights"
    inner = inner if inner.is_dir() else checkpoint
    for entry in sorted(inner.iterdir()):
        if not entry.name.startswith("optimizer."):
            (weights / entry.name).symlink_to(entry.resolve())
    _copy_description(nemo_base, folder)
    _name_format(folder / "model_config.yaml", inner / "metadata.json")
    return folder


def _name_format(config: Path, metadata: Path) -> None:
    """Megatron writes the format of a checkpoint into its metadata.json."""
    described = from_yaml(config)
    try:
        described["dist_ckpt_format"] = msgspec.json.decode(metadata.read_bytes(), type=_Metadata).sharded_backend
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(
            f"not a Megatron checkpoint ({error})", where=str(metadata), fix="train again, or convert another step"
        ) from None
    config.write_text(to_yaml(described))


class _Metadata(msgspec.Struct):
    sharded_backend: str


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
