"""What goes wrong on a cluster, and what the chain makes of it."""

from __future__ import annotations

import json

import pytest

from nemo_cot.experiment.compose import EXTRA_CONF
from tests.experiment.test_subjects import EXPERIMENT
from tests.slurm.conftest import PROFILE, Chain
from tests.support import one_error, wait_for

LONG = ["launcher.stages=[train,report]", "train.max_steps=20000", "train.save_interval_steps=1000000"]
"""A training that nothing but its end saves."""


def outcomes(chain: Chain) -> dict[str, str]:
    return {row["stage"]: row["outcome"] for row in json.loads((chain.run / "chain.json").read_text())}


def test_a_failed_stage_stops_the_rest_and_submit_goes_on_after_the_fix(chain: Chain):
    broken = "curate.min_tokens=399"
    chain.submit(broken)
    states = chain.wait_end()
    assert states["curate"] == "FAILED" and states["report"] == "COMPLETED"
    assert {states[key] for key in ("pack", "train", "evaluate-trained", "evaluate-scores")} == {"CANCELLED"}
    assert {states[key] for key in ("evaluate-base", "evaluate-scores-early")} == {"COMPLETED"}
    assert "problems" not in states and "grade" not in states, "they were finished before"
    assert "error: curate: only 0 of" in chain.log("curate") and "curate: exit code 2" in chain.log("curate")
    assert outcomes(chain)["curate"] == "failed" and outcomes(chain)["train"] == "not run: it needs curate"
    assert outcomes(chain)["grade"] == "ok"
    report = (chain.run / "report" / "report.md").read_text()
    assert "curate" in report and "failed" in report
    shown = [line for line in chain.call("status").stdout.splitlines() if " failed " in line]
    assert len(shown) == 1 and "curate" in shown[0] and "NonZeroExitCode" in shown[0]
    again = chain.submit("launcher.stages=[problems,convert,generate,grade,curate,pack,train,report]")
    assert "grade" not in again and next(iter(again)) == "train", (
        "with the former value curate and pack are done"
    )
    assert set(chain.wait_end().values()) == {"COMPLETED"}, chain.told()
    assert set(outcomes(chain).values()) == {"ok"}


def test_after_a_failed_training_the_report_has_the_scores_of_all_others(
    monkeypatch, chain: Chain, tiny_model
):
    """Two subjects are sampled at once, and scored when both are there. monkeypatch comes first, to be
    undone after the chain, which needs the config to be cancelled.
    """
    (chain.cwd / "conf" / "experiment").mkdir(parents=True)
    (chain.cwd / "conf" / "experiment" / "compare.yaml").write_text(EXPERIMENT)
    monkeypatch.setenv(EXTRA_CONF, str(chain.cwd / "conf"))
    three = ["evaluate.subjects=[base,other,trained]", f"evaluate.models.other.path={tiny_model}"]
    chain.overrides = ["experiment=compare", *chain.overrides, *three]
    ids = chain.submit("launcher.stages=[train,evaluate,report]", "train.max_steps=20000")
    chain.wait_log("train", "steps  loss")
    chain.cluster.call("scancel", ids["train"])
    done = {"evaluate-base", "evaluate-other", "evaluate-scores-early", "report"}
    assert {key for key, state in chain.wait_end().items() if state == "COMPLETED"} == done, chain.told()
    assert outcomes(chain) == {"train": "failed", "evaluate": "not run: it needs train"}
    assert "[evaluate/scores]" not in chain.log("evaluate-base") + chain.log("evaluate-other")
    scores = json.loads((chain.run / "evaluate" / "scores" / "metrics.json").read_text())
    assert scores["subjects"].keys() == {"base", "other"}
    assert "Samples of the other model" in (chain.run / "report" / "report.md").read_text()


def test_a_warning_before_the_time_limit_saves_requeues_and_resumes(chain: Chain):
    job = chain.submit(*LONG)["train"]
    chain.wait_log("train", "steps  loss")
    chain.cluster.call("scancel", "--signal=USR1", "--batch", job)
    chain.wait_log("train", "SIGUSR1 came; the state after step ")
    chain.wait_log("train", "restart 1")
    wait_for(lambda: "[train] resumes; attempt 2" in chain.log("train"), every=0.2)
    saved = _saved_step(chain, "train")
    wait_for(lambda: _steps(chain) > saved, every=0.2)
    rows = [json.loads(line)["step"] for line in _metrics(chain)]
    assert rows == list(range(1, len(rows) + 1)), "no step twice, none left out"
    assert chain.cluster.job(job)["Restarts"] == "1"


def test_preemption_saves_requeues_and_resumes(chain: Chain):
    """The higher partition's job needs all GPUs of both nodes."""
    gpus = "cluster.resources.train.gpus_per_node=8"
    job = chain.submit(*LONG, "cluster.partition=low", gpus)["train"]
    chain.wait_log("train", "steps  loss")
    high = ["sbatch", "--partition=high", "--nodes=2", "--gpus-per-node=8", "--time=1", "--output=/dev/null"]
    chain.cluster.call(*high, "--wrap=sleep 2")
    chain.wait_log("train", "came; the state after step ")  # SIGTERM, or the runner's SIGUSR1: what is first
    chain.wait_log("train", "restart 1")
    chain.wait_log("train", "[train] resumes; attempt 2")
    assert chain.cluster.job(job)["Restarts"] == "1"


def test_training_longer_than_its_time_limit_goes_on_in_the_next_job(chain: Chain):
    """Slurm's own warning, for a limit that is near once the training has begun, however long its start takes: limits
    are minutes, and Slurm looks every 30 s.
    """
    limit = 'cluster.resources.train.time_limit="01:00:00"'
    ids = chain.submit(*LONG, "train.max_steps=100000", limit, "cluster.warning_seconds=90", "cluster.train_jobs=2")
    assert list(ids) == ["train-1", "train", "report"]
    chain.wait_log("train-1", "steps  loss")
    hours, minutes, _ = map(int, chain.cluster.job(ids["train-1"])["RunTime"].split(":"))
    chain.cluster.call("scontrol", "update", f"JobId={ids['train-1']}", f"TimeLimit={60 * hours + minutes + 2}")
    chain.wait_log("train-1", "the next training job goes on")
    chain.wait_log("train-1", "train-1: exit code 0")
    saved = _saved_step(chain, "train-1")
    assert saved > 0
    chain.wait_log("train", "[train] resumes; attempt 2")
    wait_for(lambda: _steps(chain) > saved, every=0.2)
    assert chain.state(ids["train-1"]) == "COMPLETED" and chain.state(ids["report"]) == "PENDING"


def test_a_training_job_that_finds_the_stage_finished_ends_at_once(chain: Chain):
    chain.submit("launcher.stages=[train]", "cluster.train_jobs=2")
    assert set(chain.wait_end().values()) == {"COMPLETED"}, chain.told()
    assert "[train] done, skipped" in chain.log("train")


def test_without_requeue_the_chain_ends_and_submit_goes_on(chain: Chain):
    job = chain.submit(*LONG, "cluster.requeue=false")["train"]
    chain.wait_log("train", "steps  loss")
    chain.cluster.call("scancel", "--signal=USR1", "--batch", job)
    assert chain.wait_end() == {"train": "FAILED", "report": "COMPLETED"}, chain.told()
    assert "exit code 75" in chain.log("train") and chain.cluster.job(job)["ExitCode"] == "75:0"
    assert outcomes(chain) == {"train": "failed"}


@pytest.mark.parametrize("override, said", [
    ("cluster.partition=nonesuch", "invalid partition specified: nonesuch"),
    ("cluster.resources.train.partition=nonesuch", "invalid partition specified: nonesuch"),
    ("cluster.account=nobodys", "Invalid account or account/partition combination specified"),
    ("cluster.reservation=nonesuch", "eservation"),
    ("cluster.constraint=nonesuch", "nvalid feature specification"),
    ("cluster.resources.evaluate.gpus_per_node=9", "equested node configuration is not available"),
])  # fmt: skip
def test_what_can_never_run_is_refused_in_one_line_and_leaves_nothing_queued(chain: Chain, override, said):
    error = one_error(chain.call("submit", *PROFILE, override, check=False), "sbatch", said)
    assert "cluster." in error.partition("Fix:")[2]
    assert "tiny" not in chain.cluster.call("squeue", "--noheader", "--format=%j")


def _saved_step(chain: Chain, key: str) -> int:
    return int(chain.log(key).split("the state after step ")[1].split()[0])


def _metrics(chain: Chain) -> list[str]:
    [path] = chain.run.glob("train.partial-*/metrics.jsonl")
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _steps(chain: Chain) -> int:
    return len(_metrics(chain))
