"""One storage, one base and one image for all tests here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_cot import __version__
from tests.docker.buildah import BUILD_SECONDS, Buildah, missing

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """Skips, with the reason, where no image can be built."""
    if reason := missing():
        pytest.skip(reason)
    tool = Buildah(tmp_path_factory.mktemp("buildah"))
    yield tool
    tool.close()


@pytest.fixture(scope="session")
def debian(buildah: Buildah) -> str:
    """A Debian that has neither pip nor venv, so that the build installs them."""
    return buildah.debian("debian", ["ca-certificates", "python3"])


@pytest.fixture(scope="session")
def image(buildah: Buildah, debian: str) -> str:
    """The default target without NeMo, for user 1000."""
    arguments = {
        "BASE_IMAGE": debian, "WITH_NEMO": "0", "USER_ID": "1000", "GROUP_ID": "1000",
        "VERSION": __version__, "REVISION": REVISION, "SOURCE": "https://example.org/nemo-cot",
        "BUILD_ID": 'build "7" $(id)',
    }  # fmt: skip
    buildah.build("core", target="nemo-aligner", arguments=arguments)
    return "localhost/core"


@pytest.fixture(scope="session")
def debian_with_uv(buildah: Buildah, debian: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same Debian with uv from the package index on PATH, as NeMo-RL's image has it."""
    folder = tmp_path_factory.mktemp("uv")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), "uv"]
    subprocess.run(command, check=True, capture_output=True, timeout=BUILD_SECONDS)
    return _with_program(buildah, debian, folder / "bin/uv")


def _with_program(buildah: Buildah, base: str, program: Path) -> str:
    container = buildah.container(base)
    buildah("copy", "--chmod", "755", container, program, "/usr/local/bin/uv")
    return buildah.commit(container, "debian-with-uv")
