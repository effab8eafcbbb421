"""nemo-cot run as a process: failures, Ctrl-C, and a launcher that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nemo_cot.stages.lock import holder
from tests.chain.forks import wait_gone
from tests.support import (
    SECONDS,
    digests,
    nemo_cot,
    nemo_cot_here,
    run_stages,
    start,
    tiny_experiment,
    wait_for,
)


@pytest.fixture(scope="module")
def prepared(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory, graded."""
    overrides = tiny_experiment(tiny_model, tmp_path_factory.mktemp("prepared"))
    return run_stages(overrides, "convert", "problems", "generate", "grade").path


@pytest.fixture
def overrides(prepared: Path, tiny_model: Path, tmp_path: Path) -> list[str]:
    """The experiment, in a copy of what is prepared."""
    shutil.copytree(prepared, tmp_path / "tiny")
    return tiny_experiment(tiny_model, tmp_path)


LONG = [
    "launcher.stages=[generate]",
    "teacher=model",
    "generate.samples_per_problem=400",
    "teacher.sampling.batch_size=2",
    "teacher.sampling.max_new_tokens=12",
    "teacher.sampling.precision=fp32",
]
"""A chain whose last stage samples for minutes if it is let."""


class Running:
    """A nemo-cot run that has begun to sample, with the pids of its launcher and its recipe."""

    def __init__(self, overrides: list[str], run: Path) -> None:
        self.run, self.log = run, run.parent / "log.txt"
        self.launcher = start("-m", "nemo_cot.launchers.cli", "run", *overrides, *LONG, output=self.log)
        before = self.rows()
        wait_for(lambda: self.rows() >= before + 2 or self.launcher.poll() is not None, every=0.01)
        self.recipe = self._recipe()

    def rows(self) -> int:
        files = list(self.run.glob("generate.partial-*/generations.jsonl"))
        return files[0].read_bytes().count(b"\n") if files else 0

    def _recipe(self) -> int:
        children = Path(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children").read_text().split()
        assert len(children) == 1, self.log.read_text()
        return int(children[0])

    def end(self) -> int:
        """The launcher's exit code, once its recipe has ended as well."""
        code = self.launcher.wait(SECONDS)
        wait_gone(self.recipe)
        return code


@pytest.fixture
def running(overrides: list[str], tmp_path: Path) -> Iterator[Running]:
    process = Running(overrides, tmp_path / "tiny")
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.launcher.pid, signal.SIGKILL)
    process.launcher.wait(SECONDS)


def goes_on(running: Running, overrides: list[str]) -> str:
    """The same command again; returns what it says until it has sampled more."""
    again = Running(overrides, running.run)
    os.killpg(again.launcher.pid, signal.SIGKILL)
    again.launcher.wait(SECONDS)
    return again.log.read_text()


def test_ctrl_c_ends_both_and_leaves_a_run_that_resumes(running, overrides):
    os.killpg(running.launcher.pid, signal.SIGINT)
    assert running.end() == 130
    said = running.log.read_text()
    assert "the same command resumes" in said and "Traceback" not in said
    assert holder(running.run) is None
    assert json.loads((running.run / "chain.json").read_text())[-1]["outcome"] == "interrupted"
    assert "attempt 2" in goes_on(running, overrides)


def test_a_killed_launcher_takes_its_recipe_with_it(running, overrides):
    os.kill(running.launcher.pid, signal.SIGKILL)
    assert running.end() == -signal.SIGKILL
    said = goes_on(running, overrides)
    assert f"stale lock: process {running.launcher.pid} " in said and "taken over" in said
    assert "attempt 2" in said


def test_a_killed_recipe_is_reported(running):
    os.kill(running.recipe, signal.SIGKILL)
    assert running.end() == 128 + signal.SIGKILL
    said = running.log.read_text()
    assert "error: generate: killed by signal SIGKILL. Fix: " in said and "generate failed after" in said


def test_a_second_run_in_the_same_directory_is_refused(running, overrides):
    rows = running.rows()
    second = nemo_cot("run", *overrides, *LONG)
    assert second.returncode == 2
    assert f"in use by process {running.launcher.pid} on " in second.stderr and second.stderr.startswith(
        "error: "
    )
    assert running.launcher.poll() is None and running.rows() >= rows
    shown = nemo_cot_here("status", *overrides, *LONG)
    assert shown.returncode == 0 and f"in use by process {running.launcher.pid}" in shown.stdout


def test_a_failing_stage_stops_those_that_need_it_and_the_report_says_so(prepared, overrides, tmp_path):
    done = nemo_cot("run", *overrides, "curate.min_tokens=399", "report.title=failed")
    run = tmp_path / "tiny"
    assert done.returncode == 2
    assert "error: curate: only 0 of 4 traces are left" in done.stderr and done.stderr.count("error:") == 1
    outcomes = {entry["stage"]: entry["outcome"] for entry in json.loads((run / "chain.json").read_text())}
    assert outcomes["grade"] == "ok" and outcomes["curate"] == "failed"
    assert outcomes["pack"] == "not run: it needs curate"
    assert outcomes["evaluate"] == "not run: it needs curate"
    assert not (run / "pack").exists() and not (run / "train").exists()
    report = (run / "report" / "report.md").read_text()
    assert (
        "curate" in report and "failed" in report and "not run: it needs curate" in report.replace("\\", "")
    )
    assert digests(run / "grade") == digests(prepared / "grade")
    assert nemo_cot("run", *overrides, "launcher.stages=[curate]").returncode == 0


def test_a_chain_again_skips_everything(overrides):
    """In the chain's order, whatever order they are named in."""
    again = nemo_cot("run", *overrides, "launcher.stages=[grade,problems,convert]")
    assert again.returncode == 0
    said = [line for line in again.stdout.splitlines() if line.startswith("[")]
    assert [line.partition(" done, skipped; unchanged since")[0] for line in said] == [
        "[convert]", "[problems]", "[grade]",
    ], again.stdout  # fmt: skip


def test_an_unknown_stage_is_refused_before_anything_is_written(tiny_model, tmp_path):
    done = nemo_cot_here("run", *tiny_experiment(tiny_model, tmp_path), "launcher.stages=[problems,trian]")
    assert done.returncode == 2 and "there is no stage 'trian'" in done.stderr
    assert not (tmp_path / "tiny").exists()


def test_what_preflight_refuses_is_refused_before_anything_is_written(tiny_model, tmp_path):
    done = nemo_cot_here("run", *tiny_experiment(tiny_model, tmp_path), "curate.num_traces=100")
    assert done.returncode == 2 and done.stderr.startswith("error: preflight, enough_candidates: ")
    assert not (tmp_path / "tiny").exists()


def test_the_children_of_a_killed_grade_end_too(overrides, tmp_path):
    """Grading has workers of its own: they go when the launcher is killed."""
    shutil.rmtree(tmp_path / "tiny" / "grade")
    launcher = start(
        "-m", "nemo_cot.launchers.cli", "run", *overrides, "launcher.stages=[grade]", output=tmp_path / "log.txt"
    )
    seen: set[int] = set()
    try:
        wait_for(
            lambda: seen.update(_descendants(launcher.pid)) or len(seen) >= 2 or launcher.poll() is not None
        )
    finally:
        launcher.kill()
        launcher.wait(SECONDS)
    assert len(seen) >= 2, "no worker was seen"
    for pid in seen:
        wait_gone(pid)


def _descendants(pid: int) -> set[int]:
    done = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, timeout=SECONDS)
    parents = dict(map(int, line.split()) for line in done.stdout.splitlines())
    found, todo = set(), [pid]
    while todo:
        parent = todo.pop()
        children = [p for p, its in parents.items() if its == parent]
        found.update(children)
        todo += children
    return found
