"""The command before a recipe's own that puts it into a container: pyxis' options of srun, or apptainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nemo_cot.config.cluster import ContainerConfig
from nemo_cot.errors import UserError

_ENVIRONMENT = {"PYTHONNOUSERSITE": "1"}
"""Of every container: packages in ~/.local are built for another Python, and would hide the image's."""
_WITHOUT_GPUS = {"NVIDIA_VISIBLE_DEVICES": "void"}
"""Enroot's hook for NVIDIA's images fails on a node without a driver unless the job says this
(NVIDIA/enroot, conf/hooks/98-nvidia.sh)."""


def container_prefix(
    container: ContainerConfig, image: str | None, folders: Sequence[Path], *, gpus: bool = True
) -> list[str]:
    """What stands before the command of a recipe. ``folders`` are mounted where they are; the first is where
    it starts.

    ``gpus``: whether the driver's libraries are put into it. Raises UserError without an image, and for
    a path that a mount cannot name.
    """
    starts = {"pyxis": ["srun", "--nodes=1", "--ntasks=1"]}
    return starts.get(container.runtime, []) + srun_options(container, image, folders, gpus=gpus)


def srun_options(
    container: ContainerConfig, image: str | None, folders: Sequence[Path], *, gpus: bool = True
) -> list[str]:
    """The same behind an srun that is there already."""
    return _RUNTIMES[container.runtime](container, image, folders, gpus)


def _pyxis(container: ContainerConfig, image: str | None, folders: Sequence[Path], gpus: bool) -> list[str]:
    """Options of srun (the plugin: github.com/NVIDIA/pyxis)."""
    environment = _ENVIRONMENT | ({} if gpus else _WITHOUT_GPUS)
    return [
        f"--container-image={_image(image)}",
        f"--container-mounts={','.join(_mounts(container, folders))}",
        f"--container-workdir={folders[0]}",
        f"--export={','.join(['ALL', *map('='.join, environment.items())])}",
        *container.pyxis_arguments,
    ]


def _apptainer(container: ContainerConfig, image: str | None, folders: Sequence[Path], gpus: bool) -> list[str]:
    """HOME stays mounted, as apptainer does it: an image is read-only, and vLLM and Triton keep their caches there."""
    binds = [option for mount in _mounts(container, folders) for option in ("--bind", mount)]
    environment = [option for item in _ENVIRONMENT.items() for option in ("--env", "=".join(item))]
    start, driver = ["--pwd", str(folders[0])], ["--nv"] if gpus else []
    arguments = [*driver, *environment, *binds, *start, *container.apptainer_arguments]
    return ["apptainer", "exec", *arguments, _image(image)]


_RUNTIMES: dict[str, Callable[..., list[str]]] = {"none": lambda *_: [], "pyxis": _pyxis, "apptainer": _apptainer}


def _image(image: str | None) -> str:
    if not image or image.startswith("-") or "\0" in image:
        raise UserError(
            f"{image!r} is no image" if image else "there is a container runtime, and no image",
            where="cluster.container.image",
            fix="name the image, or set cluster.container.runtime=none",
        )
    return image


def _mounts(container: ContainerConfig, folders: Sequence[Path]) -> list[str]:
    unique = list(dict.fromkeys(folders))
    outermost = [f for f in unique if not any(f != other and f.is_relative_to(other) for other in unique)]
    own = [f"{_plain(folder)}:{folder}" for folder in outermost]
    return [*own, *(mount for mount in container.mounts if mount not in own)]


def _plain(folder: Path) -> Path:
    if not set(",:\n\r").isdisjoint(str(folder)):
        raise UserError(
            "a mount cannot name a path with a comma, a colon or a line break",
            where=str(folder),
            fix="choose another runs_dir, or start from another directory",
        )
    return folder
