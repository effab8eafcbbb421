"""Stages of other runs: linked or copied, whole or not at all, and neither run sees what the other does."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.stages import RunDirectory, Stage, run_stage
from nemo_cot.stages.engine import look_at
from nemo_cot.stages.manifest import read_manifest
from tests.stages.deaths import Killed, die_at


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.jsonl"
    path.write_text('{"a": 1}\n')
    return path


def a_stage(source: Path, content: str = "x", *, listed: tuple[str, ...] = (), **config) -> Stage:
    """A stage that counts how often it works in ``made``."""

    def work(folder: Path, _: Mapping[str, Path]) -> None:
        (folder / "model" / "deep").mkdir(parents=True)
        (folder / "model" / "deep" / "weights").write_text(content)
        (folder / "model" / "link").symlink_to("deep/weights")
        (folder / "rows.jsonl").write_text('{"row": 0}\n')
        made.append(folder)

    made: list[Path] = []
    stage = Stage("model/base", {"source": source}, {"content": content, **config}, work, listed=listed)
    object.__setattr__(stage, "made", made)
    return stage


@pytest.fixture
def donor(tmp_path: Path, source: Path) -> RunDirectory:
    """A run in which the stage is finished."""
    run = RunDirectory(tmp_path / "donor").create()
    run_stage(a_stage(source), run, show=quiet)
    return run


@pytest.fixture
def run(tmp_path: Path, donor: RunDirectory) -> RunDirectory:
    return RunDirectory(tmp_path / "run", reuse=[donor.path]).create()


def quiet(_: str) -> None:
    pass


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def only_the_stage(run: RunDirectory) -> None:
    names = [p.name for p in run.stage("model/base").parent.iterdir()]
    assert names == ["base"] and not list(run.stage("model/base").glob(".*"))


def test_a_finished_stage_is_linked_and_says_where_it_is_from(run, donor, source):
    stage, said = a_stage(source), []
    result = run_stage(stage, run, show=said.append)
    assert result.outcome == "reused" and stage.made == []
    assert len(said) == 1 and said[0].startswith("[model/base] reused from donor, unchanged since ")
    mine, theirs = run.stage("model/base"), donor.stage("model/base")
    assert contents(mine) == contents(theirs)
    assert (mine / "model/deep/weights").samefile(theirs / "model/deep/weights"), "linked, not copied"
    assert os.readlink(mine / "model" / "link") == "deep/weights"
    manifest, original = read_manifest(mine), read_manifest(theirs)
    assert manifest.reused_from == str(donor.path) and original.reused_from is None
    assert not (mine / "manifest.json").samefile(theirs / "manifest.json")
    assert (manifest.finished_at, manifest.outputs) == (original.finished_at, original.outputs)
    only_the_stage(run)
    assert run_stage(stage, run, show=quiet).outcome == "skipped"


def test_the_first_run_that_has_it_is_taken_and_a_missing_one_passed_over(tmp_path, donor, source):
    paths = [tmp_path / "none", tmp_path / "empty", donor.path]
    paths[1].mkdir()
    run = RunDirectory(tmp_path / "run", reuse=[*paths, tmp_path / "run"]).create()
    assert [other.path for other in run.reuse] == paths, "not from itself"
    assert run_stage(a_stage(source), run, show=quiet).manifest.reused_from == str(donor.path)


@pytest.mark.parametrize("change", ["config", "input", "version"])
def test_another_fingerprint_is_not_reused(change, run, source):
    stage = a_stage(source)
    if change == "config":
        stage = a_stage(source, content="y")
    elif change == "input":
        source.write_text('{"a": 2}\n')
    else:
        stage = replace(stage, version=2)
    assert run_stage(stage, run, show=quiet).outcome == "ran"


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "model/deep/weights").write_text("y"),
    lambda folder: (folder / "rows.jsonl").unlink(),
    lambda folder: shutil.rmtree(folder / "model"),
    lambda folder: (folder / "manifest.json").write_text("{"),
], ids=["changed", "file gone", "folder gone", "manifest"])  # fmt: skip
def test_a_damaged_stage_is_not_reused_and_that_is_said(damage, run, donor, source):
    damage(donor.stage("model/base"))
    result = run_stage(a_stage(source), run, show=quiet)
    assert result.outcome == "ran" and "not reused from donor" in result.reasons[-1]


def test_a_listed_folder_of_another_size_is_not_reused(tmp_path, source):
    donor = RunDirectory(tmp_path / "listed").create()
    run_stage(a_stage(source, listed=("model",)), donor, show=quiet)
    weights = donor.stage("model/base") / "model/deep/weights"
    run = RunDirectory(tmp_path / "run", reuse=[donor.path]).create()
    assert look_at(a_stage(source, listed=("model",)), run).action == "reuse"
    weights.write_text("longer")
    run = RunDirectory(tmp_path / "run", reuse=[donor.path])
    assert look_at(a_stage(source, listed=("model",)), run).action == "run"


def test_a_manifest_that_names_files_elsewhere_is_not_reused(run, donor, source):
    path = donor.stage("model/base") / "manifest.json"
    path.write_text(path.read_text().replace('"rows.jsonl"', '"../../rows.jsonl"'))
    (donor.path.parent / "rows.jsonl").write_text('{"row": 0}\n')
    shutil.copy(donor.path.parent / "rows.jsonl", donor.path / "rows.jsonl")
    assert run_stage(a_stage(source), run, show=quiet).outcome == "ran"
    assert not (run.path.parent / "rows.jsonl").samefile(donor.path / "rows.jsonl")


def test_half_a_stage_is_not_reused(run, donor, source):
    os.rename(donor.stage("model/base"), donor.partial("model/base", "f" * 64))
    assert run_stage(a_stage(source), run, show=quiet).outcome == "ran"


def test_it_is_copied_where_it_cannot_be_linked(run, donor, source, monkeypatch):
    def other_device(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", other_device)
    assert run_stage(a_stage(source), run, show=quiet).outcome == "reused"
    mine, theirs = run.stage("model/base"), donor.stage("model/base")
    assert contents(mine) == contents(theirs)
    assert not (mine / "rows.jsonl").samefile(theirs / "rows.jsonl")


def test_a_bad_copy_is_not_published(run, source, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "other device")))
    monkeypatch.setattr(shutil, "copyfile", lambda _, target: Path(target).write_text("half"))
    stage = a_stage(source)
    result = run_stage(stage, run, show=quiet)
    assert result.outcome == "ran" and len(stage.made) == 1 and "changed meanwhile" in result.reasons[-1]
    only_the_stage(run)


def test_half_a_copy_does_not_stay_on_a_full_disk(run, source, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "other device")))
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        run_stage(a_stage(source), run, show=quiet)
    assert not list(run.path.rglob("*.partial-*")) and not run.stage("model/base").exists()


def test_neither_run_sees_what_becomes_of_the_other(run, donor, source):
    run_stage(a_stage(source), run, show=quiet)
    before = contents(run.stage("model/base"))
    run_stage(a_stage(source, content="y"), donor, show=quiet)
    assert contents(run.stage("model/base")) == before != contents(donor.stage("model/base"))
    shutil.rmtree(donor.path)
    assert run_stage(a_stage(source), run, show=quiet).outcome == "skipped"


def test_a_run_that_replaces_the_stage_meanwhile_gives_no_mixture(run, donor, source, monkeypatch):
    link, calls = os.link, []

    def linked(*arguments: object) -> None:
        if not calls:
            calls.append(run_stage(a_stage(source, content="y"), donor, show=quiet))
        link(*arguments)

    monkeypatch.setattr(os, "link", linked)
    stage = a_stage(source)
    assert run_stage(stage, run, show=quiet).outcome == "ran" and len(stage.made) == 1
    assert (run.stage("model/base") / "model/deep/weights").read_text() == "x"


@pytest.mark.parametrize("moment", range(24))
def test_a_kill_leaves_the_old_stage_or_the_new_one(moment, run, donor, source, monkeypatch):
    run_stage(a_stage(source, content="old"), run, show=quiet)
    old = contents(run.stage("model/base"))
    died = False
    with monkeypatch.context() as patched:
        moving = [(os, "rename"), (os, "replace"), (os, "link"), (os, "fsync"), (shutil, "rmtree")]
        die_at(patched, moment, moving)
        try:
            run_stage(a_stage(source), run, show=quiet)
        except Killed:
            died = True
    assert died or moment >= 20
    folder = run.stage("model/base")
    if folder.exists():
        assert (
            contents(folder) in (old, contents(donor.stage("model/base")))
            or (folder / ".attempt.json").exists()
        )
    result = run_stage(a_stage(source), run, show=quiet)
    assert result.outcome in ("reused", "skipped") and result.manifest.reused_from == str(donor.path)
    assert contents(folder) == contents(donor.stage("model/base"))
    only_the_stage(run)


def test_many_at_once(tmp_path, donor, source):
    """As the jobs of an array: one reuses it, the others find it done."""
    outcomes: list[str] = []

    def reuse() -> None:
        run = RunDirectory(tmp_path / "run", reuse=[donor.path]).create()
        outcomes.append(run_stage(a_stage(source), run, show=quiet).outcome)

    threads = [threading.Thread(target=reuse) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["reused"] + ["skipped"] * 7


def test_what_is_foreseen_writes_nothing_and_lets_the_next_stage_be_foreseen(run, donor, source):
    before = sorted(run.path.rglob("*"))
    plan = look_at(a_stage(source), run)
    assert (plan.action, plan.other.path) == ("reuse", donor.path)
    assert sorted(run.path.rglob("*")) == before
    assert run.artifact("model/base", "rows.jsonl") == donor.stage("model/base") / "rows.jsonl"


def test_what_was_hashed_in_the_other_run_is_not_hashed_again(run, donor, source, monkeypatch):
    monkeypatch.setattr("nemo_cot.io.hashing._SMALL_BYTES", 0)
    assert run_stage(a_stage(source), donor, show=quiet).outcome == "skipped", "its files are big now"
    donor = RunDirectory(donor.path)
    run = RunDirectory(run.path, reuse=[donor.path])
    monkeypatch.setattr("nemo_cot.io.hashing.sha256_of", lambda path: pytest.fail(f"{path} is hashed again"))
    assert run_stage(a_stage(source), run, show=quiet).outcome == "reused"
    assert run_stage(a_stage(source), RunDirectory(run.path), show=quiet).outcome == "skipped"


def test_parts_are_kept_and_decide_nothing(tmp_path, source):
    part = tmp_path / "part.jsonl"
    part.write_text('{"a": 1}\n')
    donor = RunDirectory(tmp_path / "parts").create()
    whole = a_stage(source)
    made = run_stage(replace(whole, parts={"chunk-000": part}), donor, show=quiet).manifest
    assert made.inputs["chunk-000"].part and made.inputs["chunk-000"].rows == 1
    assert run_stage(whole, donor, show=quiet).outcome == "skipped"
    assert run_stage(a_stage(source, content="y"), donor, show=quiet).reasons == ["content: x -> y"]


def test_a_note_says_why_a_key_counts(run, source):
    run_stage(a_stage(source, content="y", chunks=2), run, show=quiet)
    stage = replace(a_stage(source, content="y", chunks=3), notes={"chunks": "batches"})
    assert run_stage(stage, run, show=quiet).reasons == ["chunks: 2 -> 3 (batches)"]
