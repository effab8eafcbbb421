"""A real study on this machine: a failing variant, kills, and what the runs share."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support import SECONDS, digests, nemo_cot, nemo_cot_here, start, tiny_experiment, wait_for

ONCE = ("convert", "problems", "generate", "grade", "evaluate/base")


@pytest.fixture
def study(tmp_path, tiny_model, monkeypatch):
    """Writes the study: two variants that share all but the training, and one that fails."""
    (tmp_path / "conf/study").mkdir(parents=True)
    common = [o for o in tiny_experiment(tiny_model, Path("runs")) if not o.startswith(("name=", "runs_dir="))]
    content = {
        "overrides": [*common, "launcher.stages=[convert,problems,generate,grade,curate,pack,train,evaluate]"],
        "runs": {
            "broken": ["curate.min_tokens=399"],
            "right": [],
            "fast": ["train.optim.lr=1e-3"],
            "wrong": ["curate.verdicts=[wrong]"],
        },
        "baseline": "right",
    }
    (tmp_path / "conf/study/small.yaml").write_text(json.dumps(content))
    monkeypatch.setenv("NEMO_COT_CONFIG_DIR", str(tmp_path / "conf"))
    return tmp_path


def makers(folder, stage):
    """The runs that did the work of ``stage``."""
    found = {}
    for path in (folder / "runs/small").glob(f"*/{stage}/manifest.json"):
        manifest = json.loads(path.read_text())
        found[path.relative_to(folder / "runs/small").parts[0]] = manifest["reused_from"]
    return {name for name, other in found.items() if other is None}


def test_a_failed_variant_stops_itself_and_a_killed_study_goes_on_with_nothing_done_twice(study):
    arguments = ["study=small", f"runs_dir={study / 'runs'}"]
    process = start("-m", "nemo_cot.launchers.cli", "run", *arguments, "--only", "broken,right,fast", output=study / "log")
    wait_for(lambda: (study / "runs/small/right/curate/manifest.json").exists(), seconds=SECONDS, every=0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = nemo_cot_here("run", *arguments, "--only", "broken,right,fast")
    assert done.returncode == 1, done.stderr
    assert "broken failed: curate" in done.stdout and "run right" in done.stdout, done.stdout
    for stage in ONCE:
        assert len(makers(study, stage)) == 1, stage
    assert makers(study, "curate") == {"right"} and makers(study, "train") == {"right", "fast"}
    table = json.loads((study / "runs/small/study.json").read_text())
    assert [row["variant"] for row in table["rows"]] == ["broken", "right", "fast", "wrong"]
    assert table["rows"][0]["missing"] == ["broken"] and table["rows"][0]["measures"] == {}
    assert table["rows"][2]["measures"]["lenient"]["minus_baseline"]["p_holm"] <= 1
    assert "broken" in (study / "runs/small/study.md").read_text()
    before = digests(study / "runs/small/right")
    again = nemo_cot_here("run", *arguments, "--only", "right,fast")
    assert again.returncode == 0 and "run 1 of" not in again.stdout, "nothing is left to do"
    assert digests(study / "runs/small/right") == before
    part = nemo_cot_here("compare", *arguments, "--only", "fast")
    assert part.returncode == 0 and "fast" in part.stdout and "other settings" not in part.stdout, "the baseline is always there"
    changed = nemo_cot_here("compare", *arguments, "--only", "fast", "train.max_steps=9").stdout
    assert "made with other settings than the study has now: right, fast (train: train.max_steps: 4 -> 9)" in changed
    shown = nemo_cot_here("status", *arguments).stdout
    assert "failed" in shown and "2 of 4 runs are finished" in shown


def test_two_runs_at_a_time_share_what_they_have_in_common_and_stages_without_scores_make_no_table(study):
    arguments = ["study=small", f"runs_dir={study / 'runs'}", "--only", "right,wrong", "--jobs", "2"]
    done = nemo_cot("run", *arguments, "launcher.stages=[convert,problems,generate]", cwd=study)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "run 2 of 2" in done.stdout and "no table yet" in done.stdout
    for stage in ("convert", "problems", "generate"):
        assert len(makers(study, stage)) == 1, stage
        assert f", {stage}] reused from" in done.stdout
    logs = "".join(path.read_text() for path in study.glob("runs/small/*/study.log"))
    assert logs.count("[generate] runs") == 1 and "[generate] runs" not in done.stdout


def test_a_rehearsed_submission_of_a_study_writes_each_shared_job_once_over_one_copy_of_the_code(study):
    arguments = ["study=small", f"runs_dir={study / 'runs'}", "--only", "right,fast", "cluster=slurm_minimal"]
    done = nemo_cot_here("submit", *arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing was submitted (--dry-run)" in done.stdout and "nemo-cot status" not in done.stdout
    files = {
        name: sorted((study / "runs/small" / name / "slurm/dry-run").glob("*.json")) for name in ("right", "fast")
    }
    jobs = {name: [json.loads(path.read_text()) for path in paths] for name, paths in files.items()}
    stages = {name: [job["key"] for job in of_run] for name, of_run in jobs.items()}
    assert {"convert", "generate", "curate", "train", "evaluate-base"} <= set(stages["right"])
    assert stages["fast"] == ["train", "evaluate-trained", "evaluate-scores"]
    assert "train*" in done.stdout
    [copy] = {job["code"] for of_run in jobs.values() for job in of_run}
    assert (Path(copy) / "nemo_cot/launchers/slurm/job.py").is_file()
    assert not list(study.glob("runs/small/*/slurm/submission.json"))
    again = nemo_cot_here("status", *arguments)
    assert "0 of 2 runs are finished" in again.stdout
