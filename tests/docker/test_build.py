"""Images really built from the Dockerfile, on a plain Debian in NVIDIA's place, and tried.

Not shown: that NVIDIA's base, CUDA builds and NeMo work (docs/container.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from nemo_cot import __version__
from tests.docker.buildah import Buildah
from tests.docker.conftest import REVISION

PYTHON = "/opt/nemo-cot/venv/bin/python"
SMOKE = (PYTHON, "-m", "nemo_cot.launchers.image_smoke")
DIGEST = "registry.example.org/nemo-cot@sha256:" + "a" * 64


@pytest.fixture(scope="module")
def container(buildah: Buildah, image: str) -> Iterator[str]:
    """One for all: each costs a copy of the image."""
    name = buildah.container(image)
    yield name
    buildah("rm", name)


def test_labels_user_and_command(buildah: Buildah, image: str) -> None:
    config = json.loads(buildah("inspect", "--type", "image", image).stdout)["Docker"]["config"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.revision"] == REVISION
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.source"] == "https://example.org/nemo-cot"
    assert labels["nemo-cot.build-id"] == 'build "7" $(id)'
    assert config["User"] == "1000:1000"
    assert config["Cmd"] == ["nemo-cot", "--help"]
    assert config["Healthcheck"]["Test"] == ["CMD", *SMOKE, "--installed-only"]


def test_smoke_command(buildah: Buildah, container: str) -> None:
    done = buildah.run(container, *SMOKE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"image nemo-aligner {__version__}, revision {REVISION}")
    assert "FAILED" not in done.stdout and done.stdout.endswith("all checks passed\n")
    assert buildah.run(container, "id", "-u").stdout.strip() == "1000"
    assert buildah.run(container, *SMOKE, "--gpu").returncode == 1


def test_smoke_command_tells_what_is_missing(buildah: Buildah, container: str) -> None:
    promises = (
        f"python {PYTHON}\nhydra-core==9.9\nnemo-aligner==0.7.0 import nemo_aligner\nfile /opt/absent\n"
    )
    script = f"import pathlib; p = pathlib.Path('/opt/nemo-cot/promised'); p.mkdir(); (p / 't.txt').write_text({promises!r})"
    as_root = ("run", "--isolation", "chroot", "--user", "0:0", container, "--")
    buildah(*as_root, PYTHON, "-c", script)
    done = buildah.run(container, *SMOKE)
    buildah(*as_root, "rm", "-r", "/opt/nemo-cot/promised")
    failed = [line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert done.returncode == 1
    assert failed == [["hydra-core", "1.3.8"], ["nemo-aligner", "nemo_aligner"], ["/opt/absent", "does"]]


def test_nothing_else_is_in_it(buildah: Buildah, container: str) -> None:
    done = buildah.run(container, "ls", "-A", "/opt/nemo-cot", "/opt/nemo-cot/src")
    found = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert {"conf", "launchers", "nemo_cot", "recipes", "image.json"} <= set(found)
    assert not {".git", "tests", "runs", "benchmarks", ".venv", ".ci"} & set(found)
    # The command is on PATH, but the environment's python is not: `python` stays the base's.
    assert buildah.run(container, "sh", "-c", "command -v nemo-cot; command -v python3").stdout.split() == [
        "/opt/nemo-cot/bin/nemo-cot", "/usr/bin/python3",
    ]  # fmt: skip


def test_a_stage_run_in_it_records_the_image(buildah: Buildah, container: str) -> None:
    problem = '{"id": "%s", "problem": "%s", "expected_answer": "2"}'
    for name in ("train", "heldout"):
        text = problem % (name, name)
        script = f"open('/tmp/{name}.jsonl', 'w').write({text!r} + chr(10))"
        assert buildah.run(container, PYTHON, "-c", script).returncode == 0
    overrides = [
        "problems=file", "problems.train_path=/tmp/train.jsonl", "problems.heldout_path=/tmp/heldout.jsonl",
        "runs_dir=/tmp/runs", "name=try",
    ]  # fmt: skip
    recipe = "/opt/nemo-cot/src/recipes/problems.py"
    done = buildah.run(container, PYTHON, recipe, *overrides, NEMO_COT_IMAGE_DIGEST=DIGEST)
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads(buildah.run(container, "cat", "/tmp/runs/try/problems/manifest.json").stdout)
    assert manifest["code"] == {"revision": REVISION, "dirty": False}
    assert manifest["image"]["digest"] == DIGEST
    assert manifest["image"]["revision"] == REVISION
    assert manifest["image"]["target"] == "nemo-aligner"
    assert manifest["image"]["build_id"] == 'build "7" $(id)'


def test_nemo_needs_a_base_with_torch(buildah: Buildah, debian: str) -> None:
    done = buildah.build("heavy", target="nemo-aligner", arguments={"BASE_IMAGE": debian}, check=False)
    assert done.returncode != 0
    assert "error: BASE_IMAGE has no torch. Fix: build on NVIDIA's PyTorch image" in done.stdout + done.stderr


@pytest.mark.parametrize(("target", "base"), [("nemo-rl", "NEMO_RL_IMAGE"), ("nemo-skills", "VLLM_IMAGE")])
def test_the_other_targets_build_with_uv(
    buildah: Buildah, debian_with_uv: str, target: str, base: str
) -> None:
    buildah.build(target, target=target, arguments={base: debian_with_uv, "WITH_NEMO": "0"})
    container = buildah.container(f"localhost/{target}")
    done = buildah.run(container, *SMOKE)
    buildah("rm", container)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"image {target} unknown, revision unknown")
