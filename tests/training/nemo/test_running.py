"""A training ends with its recipe, however that ends, and keeps the run's lock until it is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.serving.process import held_locks
from nemo_cot.stages.lock import run_lock, stage_lock
from nemo_cot.training.nemo.command import Command, run_command
from tests.support import SECONDS, environment, wait_for

RANK = """
import os, pathlib, signal, subprocess, sys, time
here, rank = pathlib.Path(sys.argv[1]), os.environ["RANK"]

def asked(*_):
    (here / f"asked-{rank}").touch()
    while not (here / "go").exists():
        time.sleep(0.05)
    (here / f"saved-{rank}").touch()
    sys.exit(0)

signal.signal(signal.SIGTERM, asked)
loader = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
(here / f"up-{rank}.new").write_text(f"{os.getpid()} {os.getppid()} {loader.pid}")
(here / f"up-{rank}.new").rename(here / f"up-{rank}")
time.sleep(600)
"""
RECIPE = """
import os, sys
from pathlib import Path
from nemo_cot.guard import guarded
from nemo_cot.training.nemo.command import Command, run_command
from nemo_cot.stages.lock import run_lock, stage_lock
from nemo_cot.stopping import raise_on_signals

def main():
    run = Path(sys.argv[1])
    with run_lock(run, shared=True), stage_lock(run, "train"):
        run_command(Command(sys.argv[2:], {}), os.environ, log=run / "scratch" / "train.log")

raise_on_signals()
sys.exit(guarded(main))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def locked(folder: Path) -> bool:
    try:
        with stage_lock(folder, "train", patience_seconds=0.0):
            pass
        with run_lock(folder, patience_seconds=0.0):
            return False
    except UserError as error:
        assert "in use" in str(error)
        return True


@pytest.fixture
def left() -> Iterator[set[int]]:
    """Processes that are ended when the test is over, should they still be there."""
    pids: set[int] = set()
    yield pids
    for pid in filter(alive, pids):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)]
)
def test_no_rank_of_torchrun_outlives_its_recipe(how, code, tmp_path, left):
    """Each rank gets torchrun's SIGTERM and the time to act on it; nobody else can start until all are gone."""
    (tmp_path / "rank.py").write_text(RANK)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, "-c", RECIPE, tmp_path, *torchrun, tmp_path / "rank.py", tmp_path]
    recipe = subprocess.Popen(list(map(str, command)), env=environment(), stderr=subprocess.PIPE)
    up, asked, saved = (
        [tmp_path / f"{word}-{rank}" for rank in range(2)] for word in ("up", "asked", "saved")
    )
    wait_for(lambda: all(path.exists() for path in up))
    left.update(int(pid) for path in up for pid in path.read_text().split())
    assert len(left) == 5 and all(map(alive, left))
    recipe.send_signal(how)
    wait_for(lambda: all(path.exists() for path in asked))
    assert locked(tmp_path)
    (tmp_path / "go").touch()
    assert recipe.wait(SECONDS) == code
    wait_for(lambda: not locked(tmp_path))
    assert not any(map(alive, left)) and all(path.exists() for path in saved)


def test_a_recipe_that_was_launched_keeps_the_launchers_lock_too(tmp_path):
    with run_lock(tmp_path) as lock:
        assert held_locks() == [lock]
    with run_lock(tmp_path, shared=True), stage_lock(tmp_path, "train"):
        assert len(held_locks()) == 2
    assert held_locks() == []


def test_the_output_goes_where_the_recipes_goes(tmp_path, capfd):
    script = "import sys; print('a step'); print('a warning', file=sys.stderr)"
    run_command(Command([sys.executable, "-c", script], {}, tmp_path), os.environ)
    assert capfd.readouterr() == ("a step\n", "a warning\n")


def test_a_place_or_a_program_that_is_not_there_is_named(tmp_path):
    for command, missing in (
        (Command(["uv", "run"], {"PATH": str(tmp_path)}), "no uv here"),
        (Command([sys.executable], {}, tmp_path / "none"), f"no {tmp_path / 'none'} here"),
    ):
        with pytest.raises(UserError, match=missing):
            run_command(command, os.environ)
