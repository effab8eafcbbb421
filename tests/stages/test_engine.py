"""Skip, run, resume, publish: what the engine does with one small stage."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import JsonlAppender
from nemo_cot.stages import Output, RunDirectory, Stage, run_stage
from nemo_cot.stages.manifest import read_manifest
from tests.stages.deaths import Killed, die_at


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run").create()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    return path


class Counter:
    """A stage that writes rows 0 .. num_rows - 1, goes on where it was cut, and can be told to stop."""

    def __init__(self, source: Path) -> None:
        self.source, self.stop_at, self.written = source, None, []

    def stage(self, num_rows: int = 4, version: int = 1, **config) -> Stage:
        return Stage(
            "count",
            inputs={"source": self.source},
            config={"rows": num_rows, "nested": {"seed": 3}, **config},
            resumable=True,
            settings={"device": "cpu"},
            version=version,
            work=lambda folder, _: self._work(folder, num_rows),
        )

    def _work(self, folder: Path, num_rows: int) -> None:
        path = folder / "rows.jsonl"
        (folder / "scratch").mkdir(exist_ok=True)
        (folder / "scratch" / "notes").write_text("only to resume")
        with JsonlAppender(path) as out:
            for row in range(len(path.read_bytes().splitlines()), num_rows):
                if row == self.stop_at:
                    raise Killed
                out.append([{"row": row}])
                self.written.append(row)


@pytest.fixture
def counter(source: Path) -> Counter:
    return Counter(source)


def quiet(_: str) -> None:
    pass


def stop(counter: Counter, run: RunDirectory, stage: Stage, at: int) -> None:
    counter.stop_at = at
    with pytest.raises(Killed):
        run_stage(stage, run, show=quiet)
    counter.stop_at, counter.written = None, []


def test_manifest_says_what_was_read_written_and_run(run, counter, source):
    result = run_stage(counter.stage(), run, show=quiet)
    manifest = read_manifest(run.stage("count"))
    assert result.outcome == "ran" and result.manifest == manifest
    assert manifest.config == {"rows": 4, "nested": {"seed": 3}} and manifest.settings == {"device": "cpu"}
    assert manifest.inputs["source"].rows == 2 and manifest.inputs["source"].path == str(source)
    assert manifest.outputs["rows.jsonl"].rows == 4 and manifest.outputs["rows.jsonl"].num_bytes == 4 * len(
        '{"row":0}\n'
    )
    assert manifest.seeds == {"nested.seed": 3} and manifest.attempts == 1
    assert "python" in manifest.packages and {"revision", "dirty"} == manifest.code.keys()
    assert list(manifest.outputs) == ["rows.jsonl"], "scratch is not published"
    assert sorted(p.name for p in run.stage("count").iterdir()) == ["manifest.json", "rows.jsonl"]


def test_unchanged_is_skipped_and_untouched(run, counter):
    run_stage(counter.stage(), run, show=quiet)
    before = {p: p.stat().st_mtime_ns for p in run.stage("count").iterdir()}
    counter.written = []
    result = run_stage(counter.stage(), run, show=quiet)
    assert result.outcome == "skipped" and counter.written == []
    assert {p: p.stat().st_mtime_ns for p in run.stage("count").iterdir()} == before


def test_settings_do_not_run_it_again(run, counter):
    stage = counter.stage()
    run_stage(stage, run, show=quiet)
    other = Stage(stage.name, stage.inputs, stage.config, stage.work, settings={"device": "cuda"})
    assert run_stage(other, run, show=quiet).outcome == "skipped"


@pytest.mark.parametrize("change, reason", [
    ({"num_rows": 5}, "rows: 4 -> 5"),
    ({"nested": {"seed": 9}}, "nested.seed: 3 -> 9"),
    ({"extra": True}, "extra: absent -> True"),
    ({"version": 2}, "stage version 1 -> 2"),
])  # fmt: skip
def test_a_change_runs_it_again_and_is_named(change, reason, run, counter):
    run_stage(counter.stage(), run, show=quiet)
    said = []
    result = run_stage(counter.stage(**change), run, show=said.append)
    assert result.outcome == "ran" and result.reasons == [reason]
    assert said == [f"[count] runs; {reason}"]


def test_a_changed_input_is_named(run, counter, source):
    run_stage(counter.stage(), run, show=quiet)
    source.write_text('{"a": 1}\n')
    assert run_stage(counter.stage(), run, show=quiet).reasons == ["input source changed"]


def test_what_is_said_is_one_line(run, counter):
    run_stage(counter.stage(prompt="<user>\n{problem}\n"), run, show=quiet)
    said = []
    run_stage(counter.stage(prompt="<user>\x1b[31m\n{problem}"), run, show=said.append)
    assert len(said) == 1 and said[0].isprintable() and "prompt: " in said[0]


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "rows.jsonl").write_text("{}\n"),
    lambda folder: (folder / "rows.jsonl").unlink(),
], ids=["changed", "removed"])  # fmt: skip
def test_a_damaged_output_is_made_again(damage, run, counter):
    whole = run_stage(counter.stage(), run, show=quiet).manifest
    damage(run.stage("count"))
    result = run_stage(counter.stage(), run, show=quiet)
    assert result.outcome == "ran" and result.reasons == ["output rows.jsonl is missing or was changed"]
    assert result.manifest.outputs == whole.outputs


def test_a_damaged_manifest_is_an_error_with_its_path(run, counter):
    run_stage(counter.stage(), run, show=quiet)
    path = run.stage("count") / "manifest.json"
    path.write_text("{")
    with pytest.raises(UserError, match="damaged manifest") as caught:
        run_stage(counter.stage(), run, show=quiet)
    assert caught.value.where == str(path)
    path.unlink()
    assert run_stage(counter.stage(), run, show=quiet).outcome == "ran"


def test_a_cut_stage_resumes(run, counter):
    stop(counter, run, counter.stage(), at=2)
    result = run_stage(counter.stage(), run, show=quiet)
    assert result.outcome == "resumed" and counter.written == [2, 3]
    assert result.manifest.attempts == 2


def test_the_old_result_stays_until_the_new_one_is_whole(run, counter):
    run_stage(counter.stage(), run, show=quiet)
    before = (run.stage("count") / "rows.jsonl").read_bytes()
    stop(counter, run, counter.stage(num_rows=6), at=5)
    assert (run.stage("count") / "rows.jsonl").read_bytes() == before
    assert run_stage(counter.stage(), run, show=quiet).outcome == "skipped"


def test_partial_work_of_another_config_waits_and_is_resumed(run, counter):
    stop(counter, run, counter.stage(num_rows=6), at=5)
    stop(counter, run, counter.stage(num_rows=8), at=1)
    assert len(run.partials("count")) == 2
    result = run_stage(counter.stage(num_rows=6), run, show=quiet)
    assert result.outcome == "resumed" and counter.written == [5]
    assert run.partials("count") == [], "published: what the others had is gone"


def test_partial_work_on_another_input_is_not_resumed(run, counter, source):
    stop(counter, run, counter.stage(), at=2)
    source.write_text('{"a": 9}\n')
    assert run_stage(counter.stage(), run, show=quiet).outcome == "ran"
    assert counter.written == [0, 1, 2, 3]


def test_a_missing_input_is_named(run, counter, source):
    source.unlink()
    with pytest.raises(UserError, match="input source is missing") as caught:
        run_stage(counter.stage(), run, show=quiet)
    assert caught.value.where == str(source) and caught.value.fix


def test_a_stage_without_output_is_refused(run):
    with pytest.raises(UserError, match="wrote no output"):
        run_stage(Stage("empty", {}, {}, work=lambda folder, _: None), run, show=quiet)
    assert not run.stage("empty").exists()


@pytest.mark.parametrize("moment", range(8))
@pytest.mark.parametrize("back", [False, True], ids=["same command", "back to the old config"])
def test_publication_is_all_or_nothing(moment, back, run, counter, monkeypatch):
    run_stage(counter.stage(num_rows=2), run, show=quiet)
    stop(counter, run, counter.stage(num_rows=9), at=1)  # a third config's partial work lies about
    with monkeypatch.context() as patched:
        die_at(patched, moment, [(os, "rename"), (shutil, "rmtree")])
        died = False
        try:
            run_stage(counter.stage(num_rows=4), run, show=quiet)
        except Killed:
            died = True
    assert died == (moment < 7), "the publication moves or removes seven times here"
    rows = 2 if back else 4
    result = run_stage(counter.stage(num_rows=rows), run, show=quiet)
    assert (
        len((run.stage("count") / "rows.jsonl").read_text().splitlines())
        == rows
        == result.manifest.outputs["rows.jsonl"].rows
    )
    assert not run.old("count").exists()
    assert [p.name for p in run.stage("count").glob(".*")] == []


def test_names_with_special_characters(tmp_path, counter):
    run = RunDirectory(tmp_path / "run [1] *?").create()
    stop(counter, run, counter.stage(num_rows=6), at=5)
    assert len(run.partials("count")) == 1
    assert run_stage(counter.stage(num_rows=6), run, show=quiet).outcome == "resumed"
    assert json.loads((run.stage("count") / "manifest.json").read_text())["attempts"] == 2


def test_a_run_directory_can_be_moved(run, counter, tmp_path):
    run_stage(counter.stage(), run, show=quiet)
    inside = Stage(
        "next", {"rows": Output("count", "rows.jsonl")}, {}, work=lambda f, _: (f / "x").write_text("x")
    )
    run_stage(inside, run, show=quiet)
    moved = RunDirectory(run.path.rename(tmp_path / "moved"))
    assert run_stage(counter.stage(), moved, show=quiet).outcome == "skipped"
    assert run_stage(inside, moved, show=quiet).outcome == "skipped"


def test_a_stage_that_is_not_resumable_starts_with_an_empty_folder(run):
    seen = []

    def work(folder, _):
        seen.append(sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")))
        (folder / "out.txt").write_text("x")
        if len(seen) == 1:
            raise KeyboardInterrupt

    stage = Stage("plain", {}, {}, work=work)
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, run, show=quiet)
    assert run_stage(stage, run, show=quiet).outcome == "ran"
    assert seen == [[], []]
