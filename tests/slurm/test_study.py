"""A study on the test Slurm: one job per shared stage, others behind it; kills; the same table as locally."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from nemo_cot.launchers.slurm.record import read_submission
from tests.slurm.conftest import PROFILE
from tests.support import nemo_cot, start, tiny_experiment, wait_for

RUNS = ("right.train1", "right.train2", "wrong.train1", "wrong.train2")
SHARED = ("convert", "problems", "generate", "grade", "evaluate/base")


HALTED = """\
#!/bin/sh
[ -e '{second}' ] && sleep 600
exec {sbatch} "$@"
"""
"""In the place of sbatch: the submission goes no further than to the first job of its second run."""


@pytest.fixture
def place(cluster, tiny_model, tmp_path):
    (tmp_path / "conf/study").mkdir(parents=True)
    common = [o for o in tiny_experiment(tiny_model, Path("runs")) if not o.startswith(("name=", "runs_dir="))]
    content = {
        "overrides": common,
        "runs": {"right": ["train.optim.lr=1e-3"], "wrong": ["train.optim.lr=1e-3", "curate.verdicts=[wrong]"]},
        "baseline": "right",
        "repeats": {"train.seed": [1, 2]},
    }
    (tmp_path / "conf/study/small.yaml").write_text(json.dumps(content))
    mine = cluster.environment
    environment = {
        "SLURM_CONF": mine["SLURM_CONF"], "PATH": mine["PATH"], "NEMO_COT_CONFIG_DIR": str(tmp_path / "conf"),
        "COLUMNS": "250",
    }  # fmt: skip
    yield tmp_path, environment
    nemo_cot("cancel", "study=small", f"runs_dir={tmp_path}/runs", cwd=tmp_path, **environment)


def call(place, verb, *more):
    folder, environment = place
    done = nemo_cot(verb, "study=small", f"runs_dir={folder}/runs", *more, cwd=folder, **environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def jobs(folder: Path) -> dict[str, list[str]]:
    """The stages with a job, by run."""
    found = {}
    for name in RUNS:
        submission = read_submission(folder / "runs/small" / name)
        found[name] = [job.stage for job in submission.jobs] if submission else []
    return found


def finished(folder: Path) -> bool:
    return all((folder / "runs/small" / name / "evaluate/scores/manifest.json").exists() for name in RUNS)


def made_by(folder: Path, stage: str) -> set[str]:
    """The runs that did the work of ``stage``."""
    manifests = {n: json.loads((folder / "runs/small" / n / stage / "manifest.json").read_text()) for n in RUNS}
    return {name for name, manifest in manifests.items() if not manifest["reused_from"]}


def test_what_runs_share_is_one_job_and_a_killed_submission_is_taken_back(place):
    folder, environment = place
    command = ("submit", "study=small", f"runs_dir={folder}/runs", *PROFILE)
    second = folder / "runs/small" / RUNS[1] / "slurm/submission.json"
    (folder / "bin").mkdir()
    (folder / "bin/sbatch").write_text(HALTED.format(second=second, sbatch=shutil.which("sbatch", path=environment["PATH"])))
    (folder / "bin/sbatch").chmod(0o755)
    halted = {**environment, "PATH": f"{folder}/bin:{environment['PATH']}"}
    process = start("-m", "nemo_cot.launchers.cli", *command, output=folder / "log", **halted)
    wait_for(second.exists, every=0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    out = call(place, "submit", *PROFILE)
    assert "behind jobs of other runs" in out
    of_run = jobs(folder)
    for stage in SHARED:
        assert [name for name in RUNS if stage in of_run[name]] == [RUNS[0]], stage
    assert [name for name in RUNS if "curate" in of_run[name]] == ["right.train1", "wrong.train1"]
    assert all("train" in of_run[name] for name in RUNS)
    again = call(place, "submit", *PROFILE)
    assert "in the queue already" in again and jobs(folder) == of_run
    with suppress(AssertionError):
        wait_for(lambda: finished(folder), every=1.0)
    assert finished(folder), call(place, "status")
    for stage in SHARED:
        assert made_by(folder, stage) == {RUNS[0]}, stage
    table = call(place, "report")
    assert "wrong" in table and (folder / "runs/small/study.html").is_file()


def test_a_failed_job_of_a_run_that_is_in_the_queue_is_not_waited_for(place, cluster):
    """Its evaluation of the base model still waits, so the run is left alone, and the others do what it did not."""
    folder, _ = place
    first = RUNS[0]
    call(place, "submit", *PROFILE, "--only", first)
    ids = {job.stage: job.id for job in read_submission(folder / "runs/small" / first).jobs}
    cluster.call("scontrol", "hold", ids["evaluate/base"])
    cluster.call("scancel", ids["generate"])
    out = call(place, "submit", *PROFILE)
    assert "in the queue already" in out
    of_run = jobs(folder)
    others = RUNS[1:]
    assert [name for name in others if "generate" in of_run[name]] == [others[0]]
    assert not any("evaluate/base" in of_run[name] for name in others)
    wait_for(lambda: all((folder / "runs/small" / n / "train/manifest.json").exists() for n in others))
    cluster.call("scontrol", "release", ids["evaluate/base"])
    wait_for(lambda: all((folder / "runs/small" / n / "evaluate/scores/manifest.json").exists() for n in others))
