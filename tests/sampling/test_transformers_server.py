"""The whole evaluation over a real server with a real (tiny) model: `transformers serve`, started by the stage."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.rundirs import run_directory
from tests.support import (
    SECONDS,
    nemo_cot_here,
    one_error,
    recipe,
    rows,
    run_stages,
    start,
    tiny_experiment,
    wait_for,
)

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "openai")),
    reason="transformers' server needs fastapi, uvicorn and openai (pip install -e '.[test]')",
)
NAME = "tests/tiny"
SAMPLES = 80
"""Per problem, of three: on a fast machine the first is followed by a hundred more before anything can be killed."""


@pytest.fixture(scope="module")
def cache(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a hub cache holds it: the server lists no others at /v1/models."""
    folder = tmp_path_factory.mktemp("hub")
    repository = folder / "models--tests--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(tiny_model, repository / "snapshots" / ("0" * 40))
    return folder


@pytest.fixture(scope="module")
def prepared(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of a run with problems and a base model, whose evaluation starts a server."""
    overrides = tiny_experiment(tiny_model, tmp_path_factory.mktemp("runs"))
    run_stages(overrides, "convert", "problems")
    serve = [sys.executable, "-m", "transformers.cli.transformers", "serve", NAME,
             "--port", "{port}", "--host", "127.0.0.1"]  # fmt: skip
    return [
        *overrides, "evaluate.engine=openai", "evaluate.subjects=[base]", f"evaluate.samples_per_problem={SAMPLES}",
        f"evaluate.engine.server.command=[{','.join(serve)}]".replace("{port}", "'{port}'"),
        f"evaluate.engine.server.model_name={NAME}", "evaluate.engine.server.start_deadline_seconds=600",
        "evaluate.engine.max_concurrent_requests=1", "evaluate.engine.retries=1",
    ]  # fmt: skip


FREEZES = """
import os, runpy, signal
from nemo_cot.io.jsonl import JsonlAppender
append = JsonlAppender.append

def frozen(self, rows):
    JsonlAppender.append = append
    append(self, rows)
    os.kill(os.getpid(), signal.SIGSTOP)

JsonlAppender.append = frozen
runpy.run_module("nemo_cot.recipes.evaluate", run_name="__main__", alter_sys=True)
"""
"""The recipe, which stops in the middle, when the first samples are on the disk, until somebody acts."""


def begun(overrides: list[str], output: Path, cache: Path) -> subprocess.Popen:
    """The recipe in a process that has stopped in the middle."""
    process = start("-c", FREEZES, *overrides, output=output, **hub(cache))
    state = Path(f"/proc/{process.pid}/stat")
    wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] in "TZ", every=0.01)
    assert process.poll() is None, output.read_text()
    return process


def hub(cache: Path) -> dict[str, str]:
    return {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}


def servers(run: Path) -> list[int]:
    """Processes whose command line names the server's log below ``run``, and all their children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                str(run).encode() in (folder / "cmdline").read_bytes()
                and b"keeper" in (folder / "cmdline").read_bytes()
            ):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_killed_with_its_server_and_resumed_to_the_end(prepared, cache, tmp_path):
    """kill -9 of the recipe in the middle: the server goes too, and nothing is asked for twice."""
    run = run_directory(load_config(prepared))
    process = begun(prepared, tmp_path / "first", cache)
    assert servers(run.path), "no server is running"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(SECONDS)
    wait_for(lambda: not servers(run.path), every=0.05)
    [received] = run.path.glob("evaluate/base.partial-*/scratch/received.jsonl")
    before = received.read_bytes()
    assert 0 < before.count(b"\n") < 3 * SAMPLES, "the kill came too late"
    again = recipe("evaluate", *prepared, **hub(cache))
    assert again.returncode == 0, again.stderr + again.stdout
    assert "[evaluate/base] resumes" in again.stdout and "server: ready after" in again.stdout
    whole = rows(run.stage("evaluate/base") / "generations.jsonl")
    heldout = [row["problem_id"] for row in rows(run.stage("problems") / "heldout.jsonl")]
    assert [(r["problem_id"], r["sample"]) for r in whole] == [(p, s) for p in heldout for s in range(SAMPLES)]
    kept = {
        (r["problem_id"], r["sample"]): r["generation"] for r in map(json.loads, before.decode().splitlines())
    }
    assert all(kept.get((r["problem_id"], r["sample"]), r["generation"]) == r["generation"] for r in whole)
    assert all(
        0 < r["num_generated_tokens"] <= 12 and r["finish_reason"] in ("stop", "length") for r in whole
    )
    log = (run.stage("evaluate/base") / "logs" / "server.log").read_text()
    assert log.count("POST /v1/completions") <= 3 * SAMPLES + 2, "samples that were there were asked for again"
    scores = json.loads((run.stage("evaluate/scores") / "metrics.json").read_text())
    assert scores["subjects"]["base"]["samples"] == 3 * SAMPLES and not servers(run.path)
    status = nemo_cot_here("status", *prepared)
    assert status.returncode == 0 and "evaluate/base" in status.stdout


def test_the_wrong_model_name_is_one_line(prepared, cache):
    done = recipe(
        "evaluate",
        *prepared,
        "evaluate.engine.server.model_name=tests/other",
        "evaluate.seed=5",
        **hub(cache),
    )
    one_error(
        done,
        f"it has the models {NAME}, not tests/other",
        "engine.server.model_name",
    )


def test_a_server_killed_in_the_middle_is_an_error_that_resumes(prepared, cache, tmp_path):
    overrides = [*prepared, "evaluate.seed=6"]
    run = run_directory(load_config(overrides))
    process = begun(overrides, tmp_path / "out", cache)
    (keeper,) = servers(run.path)
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    assert process.wait(SECONDS) == 3
    text = (tmp_path / "out").read_text()
    assert "error:" in text and "the server ended with exit code 137" in text and "resumes" in text
    assert not servers(run.path)
