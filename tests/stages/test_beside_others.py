"""Jobs of a chain run side by side: a stage is one's alone, and what looks into the run directory bears
that folders come and go.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from nemo_cot.config import Config
from nemo_cot.errors import UserError
from nemo_cot.experiment import graph
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.examine import examine
from nemo_cot.experiment.graph import Recipe, whole_graph
from nemo_cot.experiment.recipe import ONLY, run_recipe
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.io.paths import num_bytes_below
from nemo_cot.launchers.slurm.record import Submission, SubmittedJob
from nemo_cot.launchers.slurm.scheduler import JobState
from nemo_cot.launchers.slurm.status import chain_table
from nemo_cot.launchers.status import print_status
from nemo_cot.progress import PROGRESS, ProgressFile
from nemo_cot.sampling.chunks import Sampling
from nemo_cot.stages import RunDirectory, Stage, lock
from nemo_cot.stages.lock import CHAIN_JOB, run_lock, stage_lock
from tests.support import SECONDS as BOUND
from tests.support import environment, wait_for

STAGES = ("convert", "generate", "evaluate/base", "evaluate/base.chunks/chunk-000")
SECONDS = 1.0

SIDE_BY_SIDE = """
import os, sys, time
from pathlib import Path
from nemo_cot.stages import RunDirectory, Stage, run_stage
run, journal, *names = sys.argv[1:]

def work(name):
    def rows(folder, _):
        with open(journal, "a") as told:
            told.write(name + "\\n")
        for row in range(20):
            with open(folder / "rows.jsonl", "a") as out:
                out.write("{}\\n")
            time.sleep(0.005)
    return rows

for name in names:
    run_stage(Stage(name, {}, {"a": 1}, work(name), resumable=True), RunDirectory(run))
"""
"""Stages that append rows, so that a second writer doubles them; their names, where a run was begun, go into a journal."""


def _side_by_side(run: RunDirectory, journal: Path, orders: list[list[str]]) -> list[str]:
    """What the processes say, one for each of ``orders``. Asserts that all end well."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SIDE_BY_SIDE, str(run.path), str(journal), *names],
            env=environment(**{CHAIN_JOB: "job"}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for names in orders
    ]  # fmt: skip
    said = [process.communicate(timeout=BOUND)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(orders), said
    return said


def test_many_processes_at_a_few_stages_make_each_once(tmp_path: Path):
    """The others wait, and skip what was finished meanwhile."""
    run, journal = RunDirectory(tmp_path / "run").create(), tmp_path / "journal"
    names = ["generate", "evaluate/base", "evaluate/base/chunk-000", "evaluate/scores"]
    orders = [names[n % 4 :] + names[: n % 4] for n in range(6)]
    said = _side_by_side(run, journal, orders)
    assert sorted(journal.read_text().split()) == sorted(names), "each was worked on once"
    assert "".join(said).count("done, skipped") == 6 * 4 - 4 and "Traceback" not in "".join(said)
    for name in names:
        assert len((run.stage(name) / "rows.jsonl").read_text().splitlines()) == 20
        assert run.partials(name) == []


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The one recipe that there is: it samples in two chunks."""

    def generate(cfg: Config) -> Iterator[Stage]:
        def work(folder: Path, _: Mapping[str, Path], samples: range) -> None:
            (folder / "generations.jsonl").write_text("{}\n")

        yield from Sampling("generate", {}, {}, work, 2, None, 2, False, False, "cpu").stages()

    monkeypatch.setattr(graph, "recipe_names", lambda: ["generate"])
    monkeypatch.setattr(graph, "load_recipe", lambda _: generate)
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.05)
    return generate


def test_a_chunk_by_hand_keeps_off_the_one_that_a_job_works_on(overrides: list[str], generate: Recipe):
    """Whoever started it; and a launcher keeps off both."""
    run = run_directory(load_config(overrides)).create()
    with run_lock(run.path, shared=True), stage_lock(run.path, "generate/chunk-000"):
        with pytest.raises(
            UserError, match=f"the stage generate/chunk-000 is in use by process {os.getpid()}"
        ):
            run_recipe(generate, [ONLY, "generate/chunk-000", *overrides])
        run_recipe(generate, [*overrides, ONLY, "generate/chunk-001"])
        with pytest.raises(UserError, match="this run directory is in use by"):
            with run_lock(run.path):
                pytest.fail("a launcher beside a job")
    assert run.stage("generate/chunk-001").is_dir() and not run.stage("generate/chunk-000").exists()


def test_a_job_shares_the_run_and_a_recipe_by_hand_has_it_alone(overrides: list[str], generate, monkeypatch):
    run = run_directory(load_config(overrides)).create()
    with run_lock(run.path, shared=True):
        with pytest.raises(UserError, match="this run directory is in use by"):
            run_recipe(generate, overrides)
        monkeypatch.setenv(CHAIN_JOB, "generate")
        monkeypatch.setattr(lock, "_PATIENCE_OF_JOBS_SECONDS", 0.05)
        run_recipe(generate, [*overrides, ONLY, "generate/chunk-001"])
    assert run.stage("generate/chunk-001").is_dir()


@pytest.mark.parametrize("arguments, part", [
    ([ONLY, "generate/chunk-002"], "choose one of generate/chunk-000, generate/chunk-001, generate"),
    ([ONLY], "needs the name of a stage"),
])  # fmt: skip
def test_only_wants_a_stage_of_the_recipe(arguments, part, overrides: list[str], generate: Recipe, tmp_path):
    with pytest.raises(UserError, match=part) as caught:
        run_recipe(generate, [*overrides, *arguments])
    assert caught.value.where == ONLY and not list(tmp_path.iterdir())


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    return ["experiment=quickstart", f"runs_dir={tmp_path}"]


@pytest.fixture
def busy(overrides: list[str]) -> Iterator[RunDirectory]:
    """The run, in which stages start and are published, again and again."""
    run, stop = run_directory(load_config(overrides)).create(), threading.Event()
    workers = [threading.Thread(target=_work, args=(run, stage, stop)) for stage in STAGES]
    for worker in workers:
        worker.start()
    yield run
    stop.set()
    for worker in workers:
        worker.join()


def _work(run: RunDirectory, stage: str, stop: threading.Event) -> None:
    partial = run.partial(stage, "f" * 64)
    while not stop.is_set():
        with stage_lock(run.path, stage):
            (partial / ".scratch" / "deep").mkdir(parents=True, exist_ok=True)
            (partial / "rows.jsonl").write_text("{}\n")
            partial.rename(run.stage(stage))
            shutil.rmtree(run.stage(stage))


def _again_and_again(look: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        look()


def test_preflight_of_a_job_beside_others(busy: RunDirectory, overrides: list[str]):
    cfg = load_config(overrides)
    _again_and_again(lambda: examine(cfg, busy, whole_graph(cfg), stage="problems"))


def test_status_beside_others(busy: RunDirectory, overrides: list[str], capsys: pytest.CaptureFixture[str]):
    _again_and_again(lambda: print_status(overrides))
    wait_for(lambda: print_status(overrides) or " running " in capsys.readouterr().out)


def test_status_of_submitted_jobs_beside_others(busy: RunDirectory):
    jobs = [SubmittedJob(s.replace("/", "-"), s, str(i), [], "x.log", []) for i, s in enumerate(STAGES)]
    submission = Submission("2026-01-01T00:00:00+00:00", "cluster", "code", [], list(STAGES), jobs)
    states = {job.id: [JobState(job.id, "RUNNING")] for job in jobs}
    _again_and_again(lambda: chain_table(busy, submission, states))


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path: Path):
    (tmp_path / "a" / ".hidden").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"12345")
    (tmp_path / "a" / ".hidden" / "two").write_bytes(b"123")
    big = tmp_path.parent / f"{tmp_path.name}.big"
    big.write_bytes(b"1" * 10_000)
    (tmp_path / "link").symlink_to(big)
    size = num_bytes_below(tmp_path)
    assert 8 < size < 1_000, "the link's own few bytes, not what it points to"
    assert num_bytes_below(tmp_path / "none") == 0


def test_a_stage_that_is_published_again_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file is there when it is looked for, and gone when it is opened."""
    files = [f"problems.{key}_path={tmp_path}/none" for key in ("train", "heldout")]
    cfg = load_config(["experiment=quickstart", f"runs_dir={tmp_path}", "problems=file", *files])
    run = run_directory(cfg).create()
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    cost, _ = examine(cfg, run, whole_graph(cfg), stage="evaluate")
    assert cost.sampled_tokens_at_most is None


def test_status_tells_each_stage_by_its_own_lock(
    overrides: list[str], capsys: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.setenv("COLUMNS", "250")
    run = run_directory(load_config(overrides)).create()
    for number, stage in enumerate(("evaluate/base", "train", "grade")):
        _progress(run, stage, number)
    with (
        run_lock(run.path, shared=True),
        stage_lock(run.path, "train"),
        stage_lock(run.path, "evaluate/base"),
    ):
        print_status(overrides)
    said = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line for line in said.splitlines() if "│" in line}
    assert "running" in rows["train"] and "1/100 rows" in rows["train"]
    assert "running" in rows["evaluate/base"] and "0/100 rows" in rows["evaluate/base"]
    assert "partial" in rows["grade"], "it was touched last, and nobody works on it"
    assert "not run" in rows["evaluate/trained"]
    assert "in use by 2 processes: " in said and f"{os.getpid()} on " in said and "(train)" in said
    print_status(overrides)
    said = capsys.readouterr().out
    assert "nothing is running" in said and said.count("partial") == 3


def test_a_jobs_progress_is_that_of_its_own_stages(tmp_path: Path):
    run = RunDirectory(tmp_path).create()
    for number, stage in enumerate(("evaluate/base", "evaluate/base/chunk-001", "generate/chunk-001")):
        _progress(run, stage, number)
    made = [("evaluate/base", []), ("evaluate/base", [1]), ("generate", [1]), ("train", [])]
    jobs = [SubmittedJob(f"job-{i}", stage, str(i), [], "x.log", a) for i, (stage, a) in enumerate(made)]
    states = {job.id: [JobState(f"{job.id}_1" if job.array else job.id, "RUNNING")] for job in jobs}
    table = chain_table(run, Submission("2026-01-01T00:00:00+00:00", "cluster", "code", [], [], jobs), states)
    shown = [cell.partition("/")[0] for cell in table.columns[7].cells]
    assert shown == ["0", "1", "2", ""]


def _progress(run: RunDirectory, stage: str, done: int) -> None:
    """A partial folder with ``done`` of 100 rows, told later the higher ``done`` is."""
    partial = run.partial(stage, "f" * 64)
    partial.mkdir(parents=True)
    (partial / PROGRESS).write_bytes(
        msgspec.json.encode(ProgressFile(stage, done, 100, "rows", "", float(done)))
    )
    os.utime(partial, (done, done))
