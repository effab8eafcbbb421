"""What a job makes of its recipe's exit code; the runner with real processes, and no Slurm around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_cot.launchers.slurm import job
from nemo_cot.launchers.slurm.record import Attempt, read_attempt, write_attempt, write_json
from nemo_cot.stages.lock import CHAIN_JOB
from tests.support import SECONDS, environment, wait_for

WAITS = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep(100)
"""
DEAF = "import signal, time; signal.signal(signal.SIGUSR1, signal.SIG_IGN); print('ready', flush=True); time.sleep(100)"


def arguments(folder: Path, code: str, **changes: object) -> Path:
    values = {
        "key": "train", "recipe": "train", "run": str(folder), "code": str(folder), "cwd": str(folder),
        "command": [sys.executable, "-c", code], "chunks_of": None, "continued": False, "requeue": False,
        "max_requeues": 0, "max_fault_requeues": 0, "warning_seconds": 100, "tasks_per_node": 1, "extra_conf": False,
    }  # fmt: skip
    write_json(folder / "job.json", values | changes)
    return folder / "job.json"


def start(path: Path, **more: str) -> subprocess.Popen[str]:
    command = [sys.executable, job.__file__, str(path)]
    return subprocess.Popen(command, env=environment(**more), stdout=subprocess.PIPE, text=True)


def ended(path: Path, **more: str) -> tuple[int, str]:
    process = start(path, **more)
    said, _ = process.communicate(timeout=SECONDS)
    return process.returncode, said


@pytest.mark.parametrize("code, expected", [
    ("pass", 0), ("raise SystemExit(2)", 2), ("raise SystemExit(75)", 75), ("1/0", 1),
    ("import os; os.kill(os.getpid(), 9)", 137),
])  # fmt: skip
def test_exit_codes(tmp_path, code, expected):
    assert ended(arguments(tmp_path, code))[0] == expected
    assert read_attempt(tmp_path, "train", "0").exit_code == expected


def test_an_unfinished_training_with_a_successor_ends_well_and_an_error_does_not(tmp_path):
    code, said = ended(arguments(tmp_path, "raise SystemExit(75)", continued=True))
    assert code == 0 and "the next training job goes on" in said
    assert ended(arguments(tmp_path, "raise SystemExit(2)", continued=True))[0] == 2


def test_a_recipe_knows_that_it_is_in_a_job_of_a_chain(tmp_path):
    """Else it would have the run to itself, and not come back when a lock is kept."""
    code = f"import os; print('told', os.environ['{CHAIN_JOB}'])"
    more = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}
    assert "told train-003\n" in ended(arguments(tmp_path, code, chunks_of=["generate"]), **more)[1]


def test_too_many_requeues_end_it(tmp_path):
    code, said = ended(
        arguments(tmp_path, "raise SystemExit(75)", requeue=True, max_requeues=3), SLURM_RESTART_COUNT="3"
    )
    assert code == 75 and "not requeued (restart 3)" in said


@pytest.mark.parametrize("code, restarts, requeues, faults, again", [
    (3, 0, 9, 2, True), (3, 1, 9, 2, True), (3, 2, 9, 2, False), (3, 0, 9, 0, False), (3, 0, 0, 2, False),
    (2, 0, 9, 2, False), (1, 0, 9, 2, False), (137, 0, 9, 2, False), (75, 8, 9, 0, True), (75, 9, 9, 2, False),
])  # fmt: skip
def test_what_is_put_back_into_the_queue_and_how_often(tmp_path, code, restarts, requeues, faults, again):
    """``restarts``: the job's, all of them after faults, as far as its record shows. A scontrol that notes what it is
    asked for stands in the place of Slurm's.
    """
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/asked"; kill -9 $PPID\n')
    program.chmod(0o755)
    path = arguments(
        tmp_path, f"import os; os._exit({code})", requeue=True, max_requeues=requeues, max_fault_requeues=faults,
        continued=code == 3,
    )  # fmt: skip
    ended_with, said = ended(
        path, PATH=f"{program.parent}:{os.environ['PATH']}", SLURM_JOB_ID="7", SLURM_RESTART_COUNT=str(restarts)
    )
    assert program.with_name("asked").exists() == again, said
    if again:
        assert program.with_name("asked").read_text() == "requeue 7\n"
        assert ended_with == -9, "Slurm ends the attempt"
        assert read_attempt(tmp_path, "train", "7").exit_code == code, "what it ended with is known before"
    else:
        assert ended_with == code and ("not requeued" in said) == (code in (3, 75))


def test_restarts_for_other_reasons_are_no_faults(tmp_path):
    """After five preemptions the first fault is tried again; the record of another job says nothing."""
    said = []
    for job_id in ("7", "8"):
        write_attempt(tmp_path, "train", Attempt("7", "n", "", 5, 75, "", faults=1))
        path = arguments(tmp_path, "raise SystemExit(3)", requeue=True, max_requeues=20, max_fault_requeues=2)
        said.append(ended(path, SLURM_JOB_ID=job_id, SLURM_RESTART_COUNT="6", PATH=str(tmp_path))[1])
    assert "number 2; requeued" in said[0] and "number 7, and not requeued (restart 6)" in said[1]
    assert read_attempt(tmp_path, "train", "8").faults == 7


def test_a_mistake_that_a_warning_meets_is_not_requeued(tmp_path):
    code = "import signal, sys, time\nsignal.signal(signal.SIGUSR1, lambda *_: sys.exit(2))\nprint('ready', flush=True)\ntime.sleep(100)"
    process = start(arguments(tmp_path, code, requeue=True, max_requeues=9))
    assert any("ready" in line for line in iter(process.stdout.readline, ""))
    process.send_signal(signal.SIGUSR1)
    said = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 2 and "requeued" not in said


def test_a_warning_reaches_the_recipe(tmp_path):
    process = start(arguments(tmp_path, WAITS, continued=True))
    assert any("ready" in line for line in iter(process.stdout.readline, ""))
    process.send_signal(signal.SIGUSR1)
    assert "the next training job goes on" in process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 0


def test_a_recipe_that_does_not_stop_is_killed_and_still_hands_over(tmp_path):
    process = start(arguments(tmp_path, DEAF, continued=True, warning_seconds=1))
    assert any("ready" in line for line in iter(process.stdout.readline, ""))
    process.send_signal(signal.SIGUSR1)
    said = process.communicate(timeout=SECONDS)[0]
    assert "has not stopped within 1 s; killed" in said and process.returncode == 0


def test_a_directory_that_is_not_on_the_node(tmp_path):
    code, said = ended(arguments(tmp_path, "pass", cwd=str(tmp_path / "none")))
    assert code == 127 and "Fix: the directory and the interpreter" in said


def test_long_lines_and_bytes_come_through_stamped(tmp_path):
    code = "import sys; sys.stdout.buffer.write(b'\\xff' * 200000 + b'\\nlast'); sys.stderr.write('\\nerr')"
    done = subprocess.run(
        [sys.executable, job.__file__, str(arguments(tmp_path, code))], env=environment(), capture_output=True,
        timeout=SECONDS,
    )  # fmt: skip
    assert done.stdout.count(b"\xff") == 200000 and b"Z last\n" in done.stdout and b"Z err\n" in done.stdout
    assert all(line[4:5] == b"-" for line in done.stdout.splitlines())


def test_the_task_of_an_array_is_a_number_and_nothing_else(tmp_path):
    path = arguments(tmp_path, "import sys; print(sys.argv)", chunks_of=["generate", "refine/1"])
    more = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}
    assert "['-c', '--only', 'generate/chunk-003', '--only', 'refine/1/chunk-003']" in ended(path, **more)[1]
    assert json.loads((tmp_path / "slurm" / "state" / "train-003.json").read_text())["id"] == "5_3"
    assert ended(path, **more | {"SLURM_ARRAY_TASK_ID": "3; touch x"})[0] == 1
    wait_for(lambda: not (tmp_path / "x").exists())
