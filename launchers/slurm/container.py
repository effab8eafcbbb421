"""The command before a recipe's own that puts it into a container: pyxis' options of srun, or apptainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nemo_cot.config_cluster import ContainerConfig
from nemo_cot.errors import UserError


def container_prefix(container: ContainerConfig, image: str | None, folders: Sequence[Path]) -> list[str]:
    """Nothing without a container. ``folders`` are mounted where they are; the first is where it starts.

    Raises UserError without an image, and for a path that a mount cannot name.
    """
    if container.runtime == "none":
        return []
    if container.runtime == "pyxis":
        return ["srun", "--nodes=1", "--ntasks=1", *pyxis_options(container, image, folders)]
    binds = [option for mount in _mounts(container, folders) for option in ("--bind", mount)]
    start = ["--pwd", str(folders[0])]
    return ["apptainer", "exec", "--nv", *binds, *start, *container.arguments, _image(image)]


def pyxis_options(container: ContainerConfig, image: str | None, folders: Sequence[Path]) -> list[str]:
    """Options of srun (the plugin: github.com/NVIDIA/pyxis)."""
    return [
        f"--container-image={_image(image)}",
        f"--container-mounts={','.join(_mounts(container, folders))}",
        f"--container-workdir={folders[0]}",
        *container.arguments,
    ]


def _image(image: str | None) -> str:
    if not image or image.startswith("-") or "\0" in image:
        raise UserError(
            f"{image!r} is no image" if image else "there is a container runtime, and no image",
            where="cluster.container.image",
            fix="name the image, or set cluster.container.runtime=none",
        )
    return image


def _mounts(container: ContainerConfig, folders: Sequence[Path]) -> list[str]:
    own = [f"{_plain(folder)}:{folder}" for folder in _outermost(folders)]
    return [*own, *(mount for mount in container.mounts if mount not in own)]


def _outermost(folders: Sequence[Path]) -> list[Path]:
    unique = list(dict.fromkeys(folders))
    return [f for f in unique if not any(f != other and f.is_relative_to(other) for other in unique)]


def _plain(folder: Path) -> Path:
    if not set(",:\n\r").isdisjoint(str(folder)):
        raise UserError(
            "a mount cannot name a path with a comma, a colon or a line break",
            where=str(folder),
            fix="choose another runs_dir, or start from another directory",
        )
    return folder
