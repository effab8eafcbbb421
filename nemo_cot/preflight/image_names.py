"""What the container runtimes take for an image: a path, or a name in a registry."""

from __future__ import annotations

import re
from pathlib import Path

from nemo_cot.config.rule import Found

_FILE = re.compile(r"\.(sqsh|sqfs|squashfs)$", re.IGNORECASE)
_SCHEME = re.compile(r"^([a-z][a-z+-]*):(?=/)")
_APPTAINER = re.compile(
    r"^((docker|oras|library|shub|https?)://|(docker-daemon|docker-archive|oci|oci-archive|oci-sif):)"
)
_HOST = re.compile(r"^[^/#]*[.:][^/#]*/")
"""A registry before a slash, as Docker writes it."""


def examine_image(runtime: str, key: str, image: str, cwd: Path) -> Found:
    """Level, what and fix of what is wrong with ``image`` of ``key``, for pyxis or apptainer.

    ``cwd``: the directory of the submission, which a relative path starts from on the nodes too.
    """
    if image.startswith("~"):
        yield (
            "error",
            f"{key}: nothing puts a directory for the ~ of {image}",
            f"write {key} as an absolute path",
        )
    else:
        yield from {"pyxis": _pyxis, "apptainer": _apptainer}[runtime](key, image, cwd)


def _pyxis(key: str, image: str, cwd: Path) -> Found:
    """A path begins with / or a dot (NVIDIA/pyxis, pyxis_slurmstepd.c); all else goes to `enroot import`."""
    scheme = _SCHEME.match(image)
    if image.endswith((".sif", ".simg")):
        yield (
            "error",
            f"{key}: pyxis cannot start {image}, an image of apptainer",
            "make a squashfs file: enroot import -o nemo-cot.sqsh dockerd://nemo-cot (docs/container.md)",
        )
    elif image.startswith(("/", ".")):
        yield from _there(key, image, cwd)
    elif _FILE.search(image):
        yield (
            "error",
            f"{key}: pyxis looks for {image} in a registry, as it begins with neither / nor ./",
            f"set {key}=./{image}, or an absolute path",
        )
    elif scheme and scheme[1] not in ("docker", "dockerd"):
        yield (
            "error",
            f"{key}: pyxis knows no {scheme[1]}:",
            f"set {key} to a .sqsh file or 'REGISTRY#IMAGE:TAG'",
        )
    elif _HOST.match(image.partition("://")[2] or image):
        yield (
            "warning",
            f"{key}: enroot before 4.0 looks for {image} on Docker Hub",
            f"write # for the first /, in quotes: \"{key}='{_with_hash(image)}'\"",
        )


def _apptainer(key: str, image: str, cwd: Path) -> Found:
    """An address with a scheme, or else a path."""
    scheme = _SCHEME.match(image)
    if _APPTAINER.match(image):
        if "#" in image:
            yield "error", f"{key}: {image} is written for pyxis", f"set {key}=docker://REGISTRY/IMAGE:TAG"
    elif scheme:
        yield (
            "error",
            f"{key}: apptainer knows no {scheme[1]}:",
            f"set {key} to a .sif file or docker://REGISTRY/IMAGE:TAG",
        )
    else:
        yield from _there(key, image, cwd, f", or docker://{image} for one of a registry")


def _there(key: str, image: str, cwd: Path, otherwise: str = "") -> Found:
    """Only an absolute path may lie on the nodes alone."""
    if (cwd / image).exists():
        return
    if image.startswith("/"):
        yield (
            "warning",
            f"{key}: there is no {image} here; the nodes must have it",
            f"correct {key} if they do not",
        )
    else:
        yield "error", f"{key}: there is no {image} in {cwd}", f"set {key} to a path that is there{otherwise}"


def _with_hash(image: str) -> str:
    scheme, mark, rest = image.rpartition("://")
    return scheme + mark + rest.replace("/", "#", 1)
