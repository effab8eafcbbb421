"""How the chain ended that was submitted first (the fixture quickstart)."""

from __future__ import annotations

import json

import pytest

from tests.slurm.conftest import Chain


@pytest.mark.model
def test_the_quickstart_ran_to_its_end_and_really_trained(quickstart: Chain):
    chain = quickstart
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
def test_the_jobs_used_the_snapshot_and_say_so(quickstart: Chain):
    run = quickstart.run
    code = json.loads((run / "train" / "manifest.json").read_text())["code"]
    assert (run / "code" / code["snapshot"][:16] / "recipes" / "train.py").exists()
    assert code["revision"] is None or len(code["revision"]) == 40
