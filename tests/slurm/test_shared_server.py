"""Stages of one job with one start of their server: two held-out sets of the base model."""

from __future__ import annotations

import json
from pathlib import Path

from tests.slurm.conftest import Chain
from tests.slurm.test_failures import outcomes
from tests.slurm.test_faults import answered, served
from tests.support import rows

PROBLEMS = "evaluate.sets.four.problems"
TWO = [
    f"{PROBLEMS}=chain_sum", f"{PROBLEMS}.terms=4", f"{PROBLEMS}.num_heldout=4", f"{PROBLEMS}.num_train=3",
    "launcher.stages=[problems,evaluate,report]",
]  # fmt: skip


def overrides(folder: Path, deaths: int) -> list[str]:
    """Three samples of the run's own set, four of the other."""
    return [*served(folder, deaths), "evaluate.samples_per_problem=1", *TWO]


def drawn(chain: Chain, *place: str) -> int:
    return len(rows(chain.run.joinpath("evaluate", *place, "generations.jsonl")))


def test_a_server_that_dies_in_the_second_set_is_started_once_more_for_what_is_left(chain: Chain, tmp_path):
    chain.overrides = [*chain.overrides, *overrides(tmp_path, deaths=1)]
    ids = chain.submit()
    assert "evaluate-base" in ids and "evaluate-four-base" not in ids
    assert set(chain.wait_end().values()) == {"COMPLETED"}, chain.told()
    assert [len(seeds) for seeds in answered(tmp_path)] == [5, 2] and chain.cluster.job(ids["evaluate-base"])["Restarts"] == "1"
    log = chain.log("evaluate-base")
    assert "server: still that at" in log and "[evaluate/base] done, skipped" in log
    assert "[evaluate/four/base] resumes; attempt 2" in log
    assert (drawn(chain, "base"), drawn(chain, "four", "base")) == (3, 4) and set(outcomes(chain).values()) == {"ok"}
    assert (chain.run / "evaluate" / "four" / "scores" / "metrics.json").exists()
    assert "evaluate-base, evaluate/four/base" in chain.call("status").stdout
    assert "[evaluate/four/base] resumes" in chain.call("logs", "evaluate/four/base").stdout
    again = chain.call("submit", "cluster=slurm_minimal").stdout
    assert "there is nothing to submit" in again, "what one job made is as if each stage had had its own"


def test_a_mistake_in_the_second_set_leaves_the_first_with_its_scores(chain: Chain, tmp_path):
    """An answer of 9 tokens, where 3 were asked for at most."""
    chain.overrides = [*chain.overrides, *overrides(tmp_path, deaths=0), "evaluate.sets.four.max_new_tokens=3"]
    ids = chain.submit()
    states = chain.wait_end()
    assert (states["evaluate-base"], chain.cluster.job(ids["evaluate-base"])["Restarts"]) == ("FAILED", "0"), chain.told()
    assert states["evaluate-scores"] == "COMPLETED" and states["evaluate-four-scores"] == "FAILED"
    assert "missing: the stage evaluate/four/base has not been run" in chain.log("evaluate-four-scores")
    scores = json.loads((chain.run / "evaluate" / "scores" / "metrics.json").read_text())
    assert scores["subjects"].keys() == {"base"} and outcomes(chain)["evaluate"] == "failed"
    chain.overrides[-1] = "evaluate.sets.four.max_new_tokens=30"
    ids = chain.submit()
    assert "evaluate-base" not in ids and "evaluate-four-base" in ids
    assert set(chain.wait_end().values()) == {"COMPLETED"}, chain.told()
