"""Jobs of a chain run side by side: what looks into the run directory bears that folders come and go."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launchers.slurm.record import Submission, SubmittedJob
from launchers.slurm.scheduler import JobState
from launchers.slurm.status import chain_table
from launchers.status import print_status
from nemo_cot.io.paths import num_bytes_below
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import run_lock
from recipes.config import load_config
from recipes.main import run_directory
from recipes.preflight import examine

STAGES = ("convert", "generate", "evaluate/base", "evaluate/base.chunks/chunk-000")
SECONDS = 1.0


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
    _again_and_again(lambda: examine(cfg, busy, stage="problems"))


def test_status_beside_others(busy: RunDirectory, overrides: list[str], capsys: pytest.CaptureFixture[str]):
    with run_lock(busy.path):
        _again_and_again(lambda: print_status(overrides))
    assert "running" in capsys.readouterr().out


def test_status_of_submitted_jobs_beside_others(busy: RunDirectory):
    jobs = [SubmittedJob(s, s.partition("/")[0], str(i), [], "x.log", []) for i, s in enumerate(STAGES)]
    submission = Submission("2026-01-01T00:00:00+00:00", "code", [], list(STAGES), jobs)
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
    cost, _ = examine(cfg, run, stage="evaluate")
    assert cost.sampled_tokens_at_most is None
