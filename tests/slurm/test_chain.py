"""Whole chains on a real Slurm: the same artifacts as the local launcher's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nemo_cot.experiment.compose import load_config
from tests.slurm.conftest import PROFILE, SMALL, Chain
from tests.slurm.test_jobs import jobs_of
from tests.support import RECIPES, digests, nemo_cot, one_error, tiny_experiment


@pytest.mark.model
def test_the_whole_chain_is_in_the_queue_at_once(quickstart: Chain):
    """It runs beside the tests that follow; the last ones of this file look at how it ended."""
    ids = quickstart.ids()
    assert list(ids) == list(jobs_of(load_config([*SMALL, *PROFILE])))
    begun = {ids[key] for key in ("problems", "convert", "generate", "grade")}  # the more, the busier this machine
    assert set(ids.values()) - quickstart.live() <= begun


def test_chunks_make_the_artifacts_of_the_local_launcher(fresh: Chain, tiny_model: Path):
    chunks = ["generate.chunks=2", "evaluate.chunks=2", "evaluate.subjects=[base]",
              "launcher.stages=[problems,convert,generate,evaluate,report]"]  # fmt: skip
    fresh.overrides += chunks
    fresh.submit()
    local = nemo_cot("run", *tiny_experiment(tiny_model, fresh.cwd / "local"), *chunks)
    assert local.returncode == 0, local.stderr
    assert set(fresh.wait_end().values()) == {"COMPLETED"}, fresh.told()
    made = {
        p: d
        for p, d in digests(fresh.run).items()
        if p.split("/")[0] not in ("code", "slurm") and "lock" not in p
    }
    assert made == digests(fresh.cwd / "local" / "tiny")
    assert "generate-chunks-001" in fresh.call("status").stdout
    made = re.findall(r"\[(\S+)\] runs", fresh.log("generate-chunks"))
    assert sorted(made) == ["generate/chunk-000", "generate/chunk-001"], "each task its own"
    assert "there is nothing to submit" in fresh.call("submit", *PROFILE).stdout


def test_a_second_submission_and_a_local_run_are_refused_while_jobs_are_queued(chain: Chain):
    ids = chain.submit("launcher.stages=[train]", "train.max_steps=20000")
    job = ids["train"]
    for verb in ("submit", "run"):
        one_error(chain.call(verb, *["cluster=slurm_minimal"], check=False), "queued or running", job)
    assert chain.ids() == ids, "nothing else was submitted"
    chain.wait_log("train", "steps  loss")
    one_error(chain.call("run", check=False), "queued or running")
    said = chain.call("cancel").stdout
    assert f"cancelled jobs {job}" in said
    assert set(chain.wait_end().values()) == {"CANCELLED"}, chain.told()
    assert "no job of" in chain.call("cancel").stdout


def test_dry_run_writes_reviewable_files_and_submits_nothing(fresh: Chain):
    said = fresh.call("submit", "--dry-run", "cluster=slurm_minimal", "cluster.account=me").stdout
    assert "nothing was submitted" in said
    assert fresh.cluster.call("squeue", "--noheader", "--name=tiny.problems") == ""
    folder = fresh.run / "slurm" / "dry-run"
    text = (folder / "07-train.sbatch").read_text()
    for line in (
        "--account=me",
        "--signal=B:USR1@120",
        "--open-mode=append",
        "--kill-on-invalid-dep=yes",
        "--requeue",
    ):
        assert f"#SBATCH {line}\n" in text
    assert not (fresh.run / "slurm" / "submission.json").exists()
    submitted = fresh.cluster.environment
    done = subprocess.run(
        ["sbatch", "--test-only", "07-train.sbatch"], cwd=folder, env=submitted, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and "to start at" in done.stderr, "a real sbatch takes the file as it is"


def test_logs_are_stamped_and_can_be_followed(chain: Chain):
    chain.submit("launcher.stages=[train]")
    followed = chain.call("logs", "train", "--follow").stdout.splitlines()
    assert followed[0].endswith(".log") and "train: exit code 0" in followed[-1]
    assert all(line[4] == "-" and line[10] == "T" for line in followed[1:]), followed
    watched = chain.call("status", "--watch").stdout
    assert "completed" in watched
    one_error(chain.call("logs", "trian", check=False), "there is no job 'trian'", "train")


def test_jobs_get_the_chosen_variables_and_no_others(fresh: Chain, monkeypatch):
    """Nor what a login shell of the node would add: /etc/profile sets PS1 or PATH, --export=NAMES ran it."""
    monkeypatch.setenv("HF_HOME", "/chosen here")
    monkeypatch.setenv("LEFT_BEHIND", "not for jobs")
    monkeypatch.setenv("SBATCH_JOB_NAME", "sbatch would obey this")
    show = fresh.cwd / "show.sh"  # in the place of the recipe's interpreter
    show.write_text("#!/bin/sh\nenv\n")
    show.chmod(0o755)
    fresh.overrides += ["launcher.stages=[problems]"]
    digest = "cluster.environment.NEMO_COT_IMAGE_DIGEST=a@sha256:12"
    job = fresh.submit(f"cluster.python={show}", digest)["problems"]
    assert fresh.wait_end() == {"problems": "COMPLETED"}, fresh.told()
    told = fresh.log("problems")
    assert " HF_HOME=/chosen here\n" in told and " NEMO_COT_IMAGE_DIGEST=a@sha256:12\n" in told
    assert "LEFT_BEHIND" not in told and "SLURM_GET_USER_ENV" not in told
    assert fresh.cluster.job(job)["JobName"] == "tiny.problems"


def test_setup_runs_in_a_login_shell_and_its_failure_has_its_own_words(fresh: Chain):
    fresh.overrides += ["launcher.stages=[problems]"]
    setup = "cluster.setup=['shopt -q login_shell','nonesuch load cuda']"
    fresh.submit(setup)
    assert fresh.wait_end() == {"problems": "FAILED"}, fresh.told()
    log = fresh.log("problems")
    assert "error: cluster.setup ended with exit code 127. Fix: " in log and "nonesuch" in log
    assert fresh.cluster.job(fresh.ids()["problems"])["ExitCode"] == "2:0"
    fresh.submit("cluster.setup=['shopt -q login_shell']")
    assert fresh.wait_end() == {"problems": "COMPLETED"}, fresh.told()


def test_a_dry_run_without_an_answer_of_slurm_warns_each_time(fresh: Chain, tmp_path, monkeypatch):
    conf = Path(fresh.cluster.environment["SLURM_CONF"]).read_text()
    (tmp_path / "slurm.conf").write_text(re.sub("SlurmctldPort=.*", "SlurmctldPort=1", conf))
    monkeypatch.setitem(fresh.cluster.environment, "SLURM_CONF", str(tmp_path / "slurm.conf"))
    assert "warning: submit" not in fresh.call("submit", "--dry-run", *PROFILE).stdout
    again = fresh.call("submit", "--dry-run", *PROFILE).stdout
    assert again.count("warning: submit would be refused now: squeue") == 1
    assert "nothing was submitted" in again
    refused = one_error(fresh.call("submit", *PROFILE, check=False), "squeue", code=3)
    shutil.rmtree(fresh.run)  # nothing to cancel
    assert "scontrol ping" in refused.partition("Fix:")[2]


def test_secrets_travel_by_environment_and_are_in_no_file(fresh: Chain, monkeypatch):
    secret = f"hf_{os.urandom(16).hex()}"
    monkeypatch.setenv("HF_TOKEN", secret)
    fresh.overrides += ["launcher.stages=[problems]"]
    show = fresh.cwd / "show.sh"  # in the place of the recipe's interpreter
    show.write_text('#!/bin/sh\nprintf %s "$HF_TOKEN" | wc -c\n')
    show.chmod(0o755)
    fresh.submit(f"cluster.python={show}")
    assert fresh.wait_end() == {"problems": "COMPLETED"}, fresh.told()
    assert f" {len(secret)}\n" in fresh.log("problems"), "the job has it"
    files = [path for path in fresh.run.rglob("*") if path.is_file()]
    assert files and not [path for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.model
def test_the_quickstart_ran_to_its_end_and_really_trained(quickstart: Chain):
    chain = quickstart
    assert set(chain.wait_end().values()) == {"COMPLETED"}, chain.call("status").stdout
    rows = (chain.run / "train" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["loss"] for row in rows]
    assert len(losses) == 3 and losses[-1] < losses[0] - 0.1, losses
    assert "pass@1" in (chain.run / "report" / "report.md").read_text()
    ends = json.loads((chain.run / "chain.json").read_text())
    assert {end["stage"] for end in ends} == {*RECIPES} - {"report"}
    assert all(end["outcome"] == "ok" for end in ends)
    shown = chain.call("status").stdout
    assert shown.count(" completed ") == len(chain.ids()) and "slurm/logs/train-" in shown


@pytest.mark.model
def test_the_jobs_used_the_snapshot_and_say_so(quickstart: Chain):
    run = quickstart.run
    code = json.loads((run / "train" / "manifest.json").read_text())["code"]
    assert (run / "code" / code["snapshot"][:16] / "recipes" / "train.py").exists()
    assert code["revision"] is None or len(code["revision"]) == 40
