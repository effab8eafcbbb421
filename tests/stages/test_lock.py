"""One lock a run directory, against real second processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.stages.lock import INHERITED, holder, run_lock
from tests.support import SECONDS, environment

HOLD = """
import sys, pathlib
from nemo_cot.stages.lock import run_lock
with run_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(folder: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock until its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
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
    assert holder(tmp_path / "none") is None
