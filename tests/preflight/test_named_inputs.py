"""Files that the config names are read before anything runs, by the stages' own readers; places are looked at."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.preflight import Finding, preflight
from nemo_cot.preflight.estimate import estimate
from tests.support import write_lines

NOBODY = 65534


def found(rule: str, *overrides: str) -> list[Finding]:
    cfg = load_config(overrides)
    return [f for f in preflight(cfg, estimate(cfg, None, 30), graph(cfg).kinds) if f.rule == rule]


@pytest.fixture
def problems(tmp_path: Path) -> list[str]:
    rows = [{"problem_id": f"p{n}", "problem": f"{n} + 1", "expected_answer": str(n + 1)} for n in range(3)]
    train, heldout = write_lines(tmp_path / "a.jsonl", rows[:2]), write_lines(tmp_path / "b.jsonl", rows[2:])
    return ["problems=file", f"problems.train_path={train}", f"problems.heldout_path={heldout}"]


@pytest.mark.parametrize("rows, where, what", [
    ([{"problem_id": "p0", "generation": "1"}, {"problem_id": "p1"}], "line 2, field generation", "missing"),
    ([{"problem_id": "p0", "generation": "1"}, {"problem_id": "p1", "problem": "1 + 2", "generation": "1"}], "line 2", "that of '1 + 1'"),
    ([{"problem_id": "p2", "generation": "held out"}], "line 1", "no trace is of one of the 2 training problems"),
    ([], "t.jsonl", "no rows"),
])  # fmt: skip
def test_traces_that_generate_would_refuse_are_refused_before(problems, tmp_path, rows, where, what):
    traces = write_lines(tmp_path / "t.jsonl", rows)
    (error,) = found("inputs_hold", *problems, "teacher=file", f"teacher.path={traces}")
    assert error.level == "error" and where in error.what and what in error.what and error.fix


def test_traces_of_these_problems_are_well(problems, tmp_path):
    traces = write_lines(tmp_path / "t.jsonl", [{"id": "p0", "generation": "1"}] * 3)
    (fine,) = found("inputs_hold", *problems, "teacher=file", f"teacher.path={traces}")
    assert fine.level == "ok"


def test_traces_of_problems_that_are_made_are_read_too(tmp_path):
    traces = write_lines(
        tmp_path / "t.jsonl", [{"id": "chain_sum-0", "generation": "1"}, {"id": "x", "generation": 1}]
    )
    (error,) = found("inputs_hold", "teacher=file", f"teacher.path={traces}")
    assert error.level == "error" and "line 2" in error.what


def test_what_is_not_there_is_not_called_well(problems):
    (unknown,) = found("inputs_hold", *problems, "teacher=file", "teacher.path=/none")
    assert unknown.level == "unknown" and "teacher.path" in unknown.what and "problems" not in unknown.what
    gone = ["problems=file", "problems.train_path=/none", "problems.heldout_path=/none"]
    assert [f.level for f in found("enough_candidates", *gone)] == ["unknown"]


def test_figures_that_wait_for_the_model_are_not_called_well():
    for rule in ("memory", "disk"):
        (unknown,) = found(rule, "experiment=quickstart", "model.shape=null")
        assert unknown.level == "unknown" and "known after convert" in unknown.what
        assert not found(rule, "experiment=quickstart", "launcher.stages=[problems,convert]")


@pytest.fixture
def guarded_place() -> Iterator[Path]:
    """A folder that nobody may write to, outside of pytest's own, which only we may enter."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o555)
    yield place
    place.chmod(0o755)
    shutil.rmtree(place)


def test_a_run_directory_that_cannot_be_written_to_is_refused(guarded_place: Path, tmp_path: Path):
    inside = [f"runs_dir={guarded_place}/deeper"]
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        (error,) = found("run_directory", *inside)
    finally:
        if root:
            os.seteuid(0)
    assert error.level == "error" and str(guarded_place) in error.what and "runs_dir" in error.fix
    (tmp_path / "file").write_text("")
    (error,) = found("run_directory", f"runs_dir={tmp_path}/file")
    assert error.level == "error" and "not a directory" in error.what
    assert found("run_directory", f"runs_dir={tmp_path}/new")[0].level == "ok"


def test_a_disk_that_is_too_small_for_a_nemo_run_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = ["model=qwen2.5_32b", "model.path=/x", "train=nemo_aligner", f"runs_dir={tmp_path}"]
    monkeypatch.setattr(
        "nemo_cot.preflight.rules.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 2**41)
    )
    (error,) = found("disk", *model, "train.save_top_k=5")
    assert error.level == "error" and str(tmp_path) in error.what and "train.save_top_k" in error.fix
    assert found("disk", *model)[0].level == "ok", "what the fix advises helps"
