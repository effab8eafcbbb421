"""Warnings of preflight: told once, before anything starts, by whoever starts it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.examine import refuse_errors
from nemo_cot.preflight import Finding
from nemo_cot.stages.lock import CHAIN_JOB, INHERITED
from tests.support import nemo_cot, nemo_cot_here, recipe_here, tiny_experiment

WARNED = Finding("a_rule", "warning", "it is\nso", "set key=value")
QUIET = [Finding("b_rule", "ok", "fine"), Finding("c_rule", "unknown", "not there")]


def test_each_warning_is_one_line(capsys: pytest.CaptureFixture[str]):
    refuse_errors([WARNED, *QUIET])
    assert capsys.readouterr().err == "warning: preflight, a_rule: it is so. Fix: set key=value\n"


def test_an_error_is_all_that_is_told(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UserError, match="broken"):
        refuse_errors([WARNED, Finding("d_rule", "error", "broken", "mend it")])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("variable", [CHAIN_JOB, INHERITED])
def test_a_stage_of_a_chain_repeats_nothing(variable, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv(variable, "1")
    refuse_errors([WARNED])
    assert capsys.readouterr().err == ""


def test_a_run_tells_its_warnings_once_and_a_recipe_alone_its_own(
    packed: Path, tiny_model: Path, tmp_path: Path
):
    shutil.copytree(packed, tmp_path / "tiny")
    tiny = [*tiny_experiment(tiny_model, tmp_path), "train.batching=literal", "curate.target_tokens=500", "curate.order=target"]
    done = nemo_cot("run", *tiny, "launcher.stages=[grade,curate]")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(told) == 1 and "target_in_window" in told[0], "neither twice, nor of stages that do not run"
    assert "warning: " not in done.stdout
    alone = recipe_here("train", *tiny)
    assert "literal_cost" in alone.stderr and "answer_fits_sampling" not in alone.stderr


def test_submit_reports_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    literal = ["experiment=quickstart", "cluster=slurm_minimal", "train.batching=literal"]
    done = nemo_cot_here("submit", "--dry-run", *literal)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: preflight, literal_cost") == 1
