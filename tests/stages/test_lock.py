"""One lock per run directory and one per stage, against real second processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from nemo_cot.errors import UNFINISHED, UserError
from nemo_cot.guard import guarded
from nemo_cot.stages import lock
from nemo_cot.stages.lock import (
    CHAIN_JOB,
    INHERITED,
    holder,
    in_use_by,
    run_lock,
    stage_holders,
    stage_lock,
)
from tests.support import SECONDS, environment

HOLD = """
import sys, pathlib
from nemo_cot.stages.lock import run_lock, stage_lock
run, *stage = sys.argv[1:]
with stage_lock(pathlib.Path(run), *stage) if stage else run_lock(pathlib.Path(run)):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(folder: Path, *stage: str) -> Iterator[subprocess.Popen]:
    """Another process that holds the run's lock, or that of a stage, until its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *stage],
        env=environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait(SECONDS)


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path):
    with holding(tmp_path) as other:
        with pytest.raises(UserError) as caught:
            with run_lock(tmp_path, patience_seconds=0.1):
                pytest.fail("two runs in one directory")
        assert f"in use by process {other.pid}" in caught.value.what
        assert caught.value.where == str(tmp_path) and "name=OTHER" in caught.value.fix
        assert holder(tmp_path).pid == other.pid


def test_a_killed_holder_is_noticed_and_taken_over(tmp_path, capsys):
    with holding(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait(SECONDS)
    assert holder(tmp_path) is None
    with run_lock(tmp_path):
        assert holder(tmp_path).pid == os.getpid()
    said = capsys.readouterr().out
    assert said.startswith(f"stale lock: process {other.pid} ") and said.endswith("taken over\n")
    with run_lock(tmp_path):
        assert capsys.readouterr().out == "", "it was released in order this time"


def test_an_orderly_end_leaves_no_stale_lock(tmp_path, capsys):
    with holding(tmp_path) as other:
        other.stdin.close()
        other.wait(SECONDS)
    with run_lock(tmp_path):
        assert capsys.readouterr().out == ""


def test_released_on_errors(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with run_lock(tmp_path):
            raise ZeroDivisionError
    assert holder(tmp_path) is None
    with holding(tmp_path):
        pass


def test_a_holder_that_is_about_to_end_is_waited_for(tmp_path):
    with holding(tmp_path) as other:
        other.stdin.close()
        with run_lock(tmp_path, patience_seconds=SECONDS):
            assert holder(tmp_path).pid == os.getpid()


def test_a_launchers_descriptor_is_used(tmp_path, monkeypatch):
    with run_lock(tmp_path) as descriptor:
        monkeypatch.setenv(INHERITED, str(descriptor))
        with run_lock(tmp_path, patience_seconds=0.0) as same:
            assert same == descriptor
        assert holder(tmp_path) is not None, "the recipe does not release the launcher's lock"


def test_a_descriptor_of_another_run_is_not(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with run_lock(tmp_path / "a") as descriptor:
        monkeypatch.setenv(INHERITED, str(descriptor))
        with run_lock(tmp_path / "b") as other:
            assert other != descriptor
            assert holder(tmp_path / "b") is not None


def test_nobody_holds_what_is_not_there(tmp_path):
    assert holder(tmp_path / "none") is None and stage_holders(tmp_path / "none") == {}
    assert in_use_by(tmp_path / "none") == ""


def test_sharers_of_a_run_keep_out_whoever_wants_it_alone(tmp_path):
    with run_lock(tmp_path, shared=True), run_lock(tmp_path, shared=True, patience_seconds=0):
        with pytest.raises(UserError, match="in use by"):
            with run_lock(tmp_path, patience_seconds=0.05):
                pytest.fail("alone beside others")
    with run_lock(tmp_path), pytest.raises(UserError, match=f"in use by process {os.getpid()} "):
        with run_lock(tmp_path, shared=True, patience_seconds=0.05):
            pytest.fail("beside one that has it alone")


def test_a_stage_is_one_processs_and_its_neighbours_are_free(tmp_path):
    with holding(tmp_path, "evaluate/base") as other:
        with pytest.raises(UserError) as caught:
            with stage_lock(tmp_path, "evaluate/base", patience_seconds=0.1):
                pytest.fail("two at one stage")
        assert f"the stage evaluate/base is in use by process {other.pid} on " in caught.value.what
        assert caught.value.where == str(tmp_path) and caught.value.exit_code == 2
        for free in ("evaluate/base/chunk-000", "evaluate/trained", "evaluate"):
            with stage_lock(tmp_path, free, patience_seconds=0):
                assert stage_holders(tmp_path).keys() == {"evaluate/base", free}
        with run_lock(tmp_path, patience_seconds=0):
            assert holder(tmp_path) is not None, "the stages' locks are no part of the run's"


def test_a_killed_holder_of_a_stage_is_noticed_and_taken_over(tmp_path, capsys):
    with holding(tmp_path, "train") as other:
        other.send_signal(signal.SIGKILL)
        other.wait(SECONDS)
    assert stage_holders(tmp_path) == {}
    with stage_lock(tmp_path, "train"):
        assert stage_holders(tmp_path)["train"].pid == os.getpid()
    said = capsys.readouterr().out
    assert said.startswith(f"stale lock of train: process {other.pid} ") and said.count("\n") == 1
    with stage_lock(tmp_path, "train"):
        assert capsys.readouterr().out == "", "it was released in order this time"


def test_a_worker_that_lives_on_does_not_keep_a_stage(tmp_path):
    """What is forked within a stage shares its open files; so does a copy of the descriptor."""
    copies = []
    with stage_lock(tmp_path, "grade"):
        for descriptor in range(3, 64):
            with suppress(OSError):
                copies.append(os.dup(descriptor))
    try:
        with stage_lock(tmp_path, "grade", patience_seconds=0):
            pass
    finally:
        for copy in copies:
            os.close(copy)


@pytest.mark.parametrize("shared", [True, False])
def test_a_job_that_finds_a_lock_kept_comes_back_later(shared, tmp_path, monkeypatch, capsys):
    """A file server may keep the lock of a node that is down; Slurm has the job run again elsewhere."""
    monkeypatch.setattr(lock, "_PATIENCE_OF_JOBS_SECONDS", 0.05)
    monkeypatch.setenv(CHAIN_JOB, "train")

    def run() -> None:
        with run_lock(tmp_path, shared=True), stage_lock(tmp_path, "train"):
            pytest.fail("two at one stage")

    with holding(tmp_path, "train") if shared else holding(tmp_path) as other:
        assert guarded(run) == UNFINISHED
    said = capsys.readouterr().err
    assert said.startswith("stopped: ") and f"in use by process {other.pid} on " in said
    monkeypatch.delenv(CHAIN_JOB)
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.05)
    with run_lock(tmp_path, shared=True), stage_lock(tmp_path, "train"):
        assert guarded(run) == 2, "nobody puts this one back into a queue"


def test_several_holders_are_counted_and_named(tmp_path):
    with holding(tmp_path, "train") as one:
        assert in_use_by(tmp_path).startswith(f"process {one.pid} on ")
        assert in_use_by(tmp_path).endswith(" (train)")
        with run_lock(tmp_path, shared=True), stage_lock(tmp_path, "evaluate/base"):
            said = in_use_by(tmp_path)
            assert (
                said.startswith("2 processes: ") and f"{one.pid} on " in said and f"{os.getpid()} on " in said
            )
            assert "(train)" in said and "(evaluate/base)" in said
            with pytest.raises(UserError) as caught:
                with run_lock(tmp_path, patience_seconds=0):
                    pytest.fail("alone beside others")
            assert said in caught.value.what
    with run_lock(tmp_path), stage_lock(tmp_path, "train"):
        assert in_use_by(tmp_path) == str(holder(tmp_path)), "a launcher stands for its recipe"


def test_half_written_files_of_a_killed_process_go_when_nobody_else_is_at_work(tmp_path):
    cut = tmp_path / ".hashes.json.abc.tmp"
    cut.write_text('{"half')
    with run_lock(tmp_path, shared=True):
        assert cut.exists(), "another job may be writing it"
    with run_lock(tmp_path):
        assert not cut.exists()
