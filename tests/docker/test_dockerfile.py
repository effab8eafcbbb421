"""What can be said of the Dockerfile and its scripts without building anything."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

SCRIPTS = sorted((ROOT / "docker").glob("*.sh"))
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


def test_hadolint_finds_nothing() -> None:
    assert HADOLINT, "hadolint is in the extra `test`: pip install -e .[test]"
    done = _hadolint(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN cd /tmp && sudo apt-get install git\n")
    done = _hadolint(bad)
    assert done.returncode == 1 and "DL3004" in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_stop_at_errors_and_can_be_run(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=300)
    text = script.read_text()
    assert re.search(r"^set -eu$", text, re.M), "an error must stop the build"
    assert script.stat().st_mode & 0o111 == 0o111
    assert "unset PIP_CONSTRAINT" in text or "pip " not in text, (
        "NVIDIA's images constrain pip to their own pins"
    )


def test_nothing_installs_what_depends_on_torch_with_dependencies() -> None:
    """In the base's own Python every installation is --no-deps: only so its torch stays."""
    for name in ("nemo.sh", "wheel.sh"):
        commands = re.findall(r"python3 -m pip (?:install|wheel).*", (ROOT / "docker" / name).read_text())
        assert commands and all("--no-deps" in command for command in commands)


def test_every_script_is_used_by_the_dockerfile() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert SCRIPTS
    assert {script.name for script in SCRIPTS} == set(re.findall(r"/docker/(\w+\.sh)", text))


@pytest.mark.parametrize(
    "path", [".git/config", "runs/a/report/report.html", ".venv/bin/python", "tests/tiny.py", "secrets.env"]
)
def test_dockerignore_keeps_out(path: str) -> None:
    assert not _sent(path)


@pytest.mark.parametrize(
    "path", ["nemo_cot/report/templates/report.md.j2", "conf/config.yaml", "docker/nemo.sh"]
)
def test_dockerignore_lets_in(path: str) -> None:
    assert (ROOT / path).exists() and _sent(path)


def _sent(path: str) -> bool:
    """Docker's rule: the last pattern that matches the path, or a folder above it, decides."""
    sent = True
    parts = path.split("/")
    prefixes = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").rstrip("/")
        if any(fnmatch.fnmatchcase(prefix, pattern) for prefix in prefixes):
            sent = line.startswith("!")
    return sent


def _hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(HADOLINT), "--no-color", "--failure-threshold", "info", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)
