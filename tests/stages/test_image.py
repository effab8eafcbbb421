"""The container image in manifests: its digest from outside, what it says of itself from inside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from nemo_cot.errors import UserError
from nemo_cot.image import DIGEST, HOME, Identity, image_record, write_identity
from nemo_cot.stages import RunDirectory, Stage, run_stage
from nemo_cot.stages.manifest import read_manifest
from tests.support import ROOT, python

SHA = "sha256:" + "0123456789abcdef" * 4
IDENTITY = Identity(
    target="nemo-aligner",
    base="debian:12",
    version="0.1.0",
    revision="f" * 40,
    source="unknown",
    build_id="7",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image's folder, empty; no digest."""
    folder = tmp_path / "image"
    folder.mkdir()
    monkeypatch.setenv(HOME, str(folder))
    monkeypatch.delenv(DIGEST, raising=False)
    return folder


def run_one(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run").create()
    stage = Stage("one", {}, {"x": 1}, lambda folder, _: (folder / "out.txt").write_text("done") and None)
    run_stage(stage, run, show=lambda line: None)
    return run


def test_no_image_and_no_digest_is_null(home: Path, tmp_path: Path) -> None:
    manifest = json.loads((run_one(tmp_path).stage("one") / "manifest.json").read_bytes())
    assert manifest["image"] is None


@pytest.mark.parametrize("digest", [SHA, f"nvcr.io/team/nemo-cot@{SHA}", f"host:5000/a/b:1.0@{SHA}"])
def test_digest_alone_is_recorded(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str
) -> None:
    monkeypatch.setenv(DIGEST, digest)
    manifest = read_manifest(run_one(tmp_path).stage("one"))
    assert manifest is not None and manifest.image == {"digest": digest}


def test_identity_and_digest_are_recorded(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_identity(IDENTITY)
    manifest = read_manifest(run_one(tmp_path).stage("one"))
    assert manifest is not None
    assert manifest.image == {"digest": "unknown", **msgspec.to_builtins(IDENTITY)}
    monkeypatch.setenv(DIGEST, SHA)
    assert image_record() == {**manifest.image, "digest": SHA}


def test_another_image_does_not_run_a_stage_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_one(tmp_path)
    before = (run.stage("one") / "manifest.json").read_bytes()
    monkeypatch.setenv(DIGEST, SHA)
    assert (run_one(tmp_path).stage("one") / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "value",
    ["latest", "sha256:123", f"{SHA}0", f"x y@{SHA}", f"$(id)@{SHA}", f"{SHA}\n", SHA.upper(), f"@{SHA}"],
)
def test_what_is_no_digest_is_refused_before_the_work(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(DIGEST, value)
    with pytest.raises(UserError, match="is not an image's digest") as caught:
        run_one(tmp_path)
    assert caught.value.where == DIGEST
    assert list((tmp_path / "run").rglob("out.txt")) == []


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"target": 1}', "\xff"])
def test_damaged_identity_is_told(home: Path, content: str) -> None:
    (home / "image.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match="not an image's identity"):
        image_record()


def test_manifest_of_an_older_version_is_read(home: Path, tmp_path: Path) -> None:
    path = run_one(tmp_path).stage("one") / "manifest.json"
    old = json.loads(path.read_bytes())
    del old["image"]
    path.write_text(json.dumps(old))
    manifest = read_manifest(path.parent)
    assert manifest is not None and manifest.image is None


@pytest.mark.parametrize(
    ("revision", "expected"),
    [
        ("f" * 40, {"revision": "f" * 40, "dirty": False}),
        ("f" * 40 + "-dirty", {"revision": "f" * 40, "dirty": True}),
        ("unknown", {"revision": None, "dirty": None}),
    ],
)
def test_code_in_an_image_is_of_its_revision(home: Path, revision: str, expected: dict[str, object]) -> None:
    shutil.copytree(ROOT / "nemo_cot", home / "src/nemo_cot", ignore=shutil.ignore_patterns("__pycache__"))
    write_identity(msgspec.structs.replace(IDENTITY, revision=revision))
    script = "import json, nemo_cot.provenance as p; print(json.dumps(p.code_revision()))"
    done = python("-c", f"import sys; sys.path.insert(0, {str(home / 'src')!r}); {script}", cwd=home)
    assert json.loads(done.stdout) == expected, done.stderr


def test_code_outside_of_the_image_is_not(home: Path, tmp_path: Path) -> None:
    """A job's own copy of the code, which lies in the run directory."""
    shutil.copytree(
        ROOT / "nemo_cot", tmp_path / "code/nemo_cot", ignore=shutil.ignore_patterns("__pycache__")
    )
    write_identity(IDENTITY)
    script = "import json, nemo_cot.provenance as p; print(json.dumps(p.code_revision()))"
    done = python("-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'code')!r}); {script}", cwd=tmp_path)
    assert json.loads(done.stdout) == {"revision": None, "dirty": None}, done.stderr
