"""The image's smoke command, on a folder that stands for an image, with this machine's Python and packages."""

from __future__ import annotations

import importlib.metadata
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import command

NUMPY = importlib.metadata.version("numpy")
WORDS = ("target=t", "base=b", "version=1", "revision=r", "source=s", 'build_id=x=$(id) "7"')


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An image that promises nothing yet; its lock holds numpy, and one package for another system."""
    folder = tmp_path / "image"
    for name in ("requirements", "promised", "bin"):
        (folder / name).mkdir(parents=True)
    lock = f"numpy=={NUMPY} \\\n    --hash=sha256:00\nabsent==1.0 ; sys_platform == 'win32' \\\n"
    (folder / "requirements/core.lock.txt").write_text(lock)
    assert smoke(folder, "identify", *WORDS).returncode == 0
    return folder


def smoke(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command("nemo_cot.launchers.image_smoke", *arguments, NEMO_COT_IMAGE_HOME=str(home))


def promise(home: Path, *lines: str, interpreter: str = sys.executable) -> None:
    (home / "promised/train.txt").write_text("\n".join([f"python {interpreter}", *lines]) + "\n")


def failures(home: Path, *arguments: str) -> list[str]:
    """Lines of what failed, but for the nemo-cot command, which a development environment may lack."""
    lines = [" ".join(line.split()) for line in smoke(home, *arguments).stdout.splitlines()]
    return [line for line in lines if line.startswith("FAILED") and not line.startswith("FAILED nemo-cot ")]


def test_identify_writes_what_it_is_given(home: Path) -> None:
    assert json.loads((home / "image.json").read_bytes()) == dict(word.split("=", 1) for word in WORDS)
    assert stat.S_IMODE((home / "image.json").stat().st_mode) & 0o444 == 0o444


@pytest.mark.parametrize("words", [WORDS[:-1], (*WORDS, "more=1"), (*WORDS[:-1], "build_id")])
def test_identify_wants_all_keys_and_no_other(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = smoke(tmp_path, "identify", *words)
    assert done.returncode == 2 and done.stderr.startswith("error: image_smoke: ")
    assert not (tmp_path / "image.json").exists()


def test_outside_an_image_it_says_so(tmp_path: Path) -> None:
    done = smoke(tmp_path)
    assert done.returncode == 2 and "not in an image" in done.stderr


def test_what_is_there_passes(home: Path) -> None:
    promise(home, f"numpy=={NUMPY} import numpy.linalg", "msgspec import msgspec", f"file {home}/image.json")
    assert failures(home) == []


def test_what_is_missing_fails(home: Path) -> None:
    promise(
        home, "numpy==0.1 import numpy", "nemo-aligner==0.7.0 import nemo_aligner", "numpy import numpy.absent",
        f"file {home}/absent", "; rm -rf /",
    )  # fmt: skip
    assert failures(home) == [
        f"FAILED numpy numpy {NUMPY} is not 0.1",
        "FAILED nemo-aligner nemo_aligner PackageNotFoundError: No package metadata was found for nemo-aligner",
        f"FAILED numpy numpy.absent {NUMPY} ModuleNotFoundError: No module named 'numpy.absent'",
        f"FAILED {home}/absent does not exist",
        f"FAILED {home}/promised/train.txt not a promise: '; rm -rf /'",
    ]
    assert smoke(home).returncode == 1


def test_installed_only_imports_nothing(home: Path) -> None:
    promise(home, "numpy import numpy.absent")
    assert failures(home, "--installed-only") == []


def test_an_interpreter_that_is_not_there_or_dies_fails(home: Path) -> None:
    promise(home, "numpy import numpy", interpreter="/absent/python")
    assert "No such file or directory" in failures(home)[0]
    dying = home / "bin/python"
    dying.write_text("#!/bin/sh\necho segmentation fault >&2\nexit 139\n")
    dying.chmod(0o755)
    promise(home, "numpy import numpy", interpreter=str(dying))
    assert failures(home) == [f"FAILED numpy numpy {dying} ended with 139: segmentation fault"]


def test_a_version_off_the_lock_fails(home: Path) -> None:
    (home / "requirements/core.lock.txt").write_text("numpy==0.1\nabsent==1.0\n")
    assert failures(home) == [f"FAILED numpy {NUMPY} is not 0.1", "FAILED absent is not installed"]
