"""Servers that really die under a job's recipe: tried again as often as the profile says, mistakes never."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.slurm.conftest import Chain
from tests.slurm.test_failures import outcomes
from tests.support import ROOT, rows

SERVER = f"""
import os, pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
from tests import scripted_server as made
port, name, folder, deaths = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]), int(sys.argv[4])
start = len(list(folder.glob("start-*"))) + 1
log = open(folder / f"start-{{start}}", "a")

def say(body):
    if start <= deaths and log.tell() and pathlib.Path(log.name).read_text().count("\\n") == 5:
        os.abort()
    print(body["seed"], file=log, flush=True)
    return "It is \\\\boxed{{1}}."

server = made._Server(("127.0.0.1", port), made._Handler)
server.script = made.Script(name, say=say)
server.serve_forever()
"""
"""Aborts at its sixth answer, the first DEATHS times that it is started; notes the seeds that it answered."""


def served(folder: Path, deaths: int, name: str = "{model}") -> list[str]:
    """Overrides that evaluate the base model, 12 samples, with that server."""
    (folder / "server.py").write_text(SERVER)
    command = [sys.executable, str(folder / "server.py"), "'{port}'", f"'{name}'", str(folder), f"'{deaths}'"]
    return [
        "launcher.stages=[evaluate,report]", "evaluate.subjects=[base]", "evaluate.samples_per_problem=4",
        "evaluate.engine=openai", f"evaluate.engine.server.command=[{','.join(command)}]",
        "evaluate.engine.max_concurrent_requests=1", "evaluate.engine.retries=0",
    ]  # fmt: skip


def answered(folder: Path) -> list[list[str]]:
    """The seeds that each server answered, in order."""
    return [path.read_text().split() for path in sorted(folder.glob("start-*"))]


def test_a_server_that_dies_is_tried_again_from_what_was_sampled(chain: Chain, tmp_path):
    job = chain.submit(*served(tmp_path, deaths=2))["evaluate-base"]
    assert set(chain.wait_end().values()) == {"COMPLETED"}, chain.told()
    assert chain.cluster.job(job)["Restarts"] == "2"
    log = chain.log("evaluate-base")
    assert "the server ended with exit code 134" in log and "number 2; requeued" in log
    assert "[evaluate/base] resumes; attempt 3" in log and set(outcomes(chain).values()) == {"ok"}
    drawn = rows(chain.run / "evaluate" / "base" / "generations.jsonl")
    assert len(drawn) == 12 and len({(row["problem_id"], row["sample"]) for row in drawn}) == 12
    asked = answered(tmp_path)
    assert [len(seeds) for seeds in asked] == [5, 5, 2], "nothing is sampled twice"
    assert set(Counter(seed for seeds in asked for seed in seeds).values()) == {3}, "each seed for each problem"


def test_a_server_that_goes_on_dying_fails_and_submit_goes_on(chain: Chain, tmp_path):
    overrides = served(tmp_path, deaths=2)
    job = chain.submit(*overrides, "cluster.max_fault_requeues=1")["evaluate-base"]
    states = chain.wait_end()
    assert (states["evaluate-base"], states["evaluate-scores"]) == ("FAILED", "CANCELLED"), chain.told()
    assert chain.cluster.job(job)["Restarts"] == "1" and chain.cluster.job(job)["ExitCode"] == "3:0"
    assert "number 2, and not requeued (restart 1)" in chain.log("evaluate-base")
    assert outcomes(chain)["evaluate"] == "failed" and states["report"] == "COMPLETED"
    chain.submit(*overrides)
    assert set(chain.wait_end().values()) == {"COMPLETED"}, chain.told()
    assert [len(seeds) for seeds in answered(tmp_path)] == [5, 5, 2]


@pytest.mark.parametrize("override, code", [("max_fault_requeues=5", 2), ("requeue=false", 3)])
def test_a_mistake_is_never_tried_again_nor_a_fault_where_nothing_is(chain: Chain, tmp_path, override, code):
    """The mistake: a server that has another model than the stage's."""
    named = "another" if code == 2 else "{model}"
    job = chain.submit(*served(tmp_path, 1, named), f"cluster.{override}")["evaluate-base"]
    assert chain.wait_end()["evaluate-base"] == "FAILED", chain.told()
    found = chain.cluster.job(job)
    assert (found["Restarts"], found["ExitCode"]) == ("0", f"{code}:0"), chain.told()
    assert len(list(tmp_path.glob("start-*"))) == 1, "it is started once"
