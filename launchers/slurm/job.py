"""Inside of a Slurm job: run one recipe, stamp its output with times, requeue when time runs out or a machine fails.

The sbatch file ends in `exec PYTHON job.py ARGUMENTS.json`, so this process is the batch step and gets
its signals. Standard library only: it runs outside of the container, whatever Python is there.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

HERE = Path(os.path.abspath(__file__))  # not resolved: nemo_cot/launchers is a link in a clone
if __name__ == "__main__":  # run by path: its folder would hide modules of the same name
    sys.path[0] = str(HERE.parents[3])

from nemo_cot.errors import EXIT_CODE, FAULT, UNFINISHED, UserError  # noqa: E402
from nemo_cot.guard import guarded  # noqa: E402
from nemo_cot.launchers.slurm import scheduler  # noqa: E402
from nemo_cot.launchers.slurm.ends import write_chain_file  # noqa: E402
from nemo_cot.launchers.slurm.record import Attempt, read_attempt, task_key, write_attempt  # noqa: E402

_SHARE_OF_WARNING = 0.8
"""Of the time between warning and limit, what a recipe has to stop in order; then it is killed, and goes
on from its last checkpoint."""
_DRAIN_SECONDS = 5.0
_REQUEUED_SECONDS = 120.0


def main(arguments: list[str]) -> int:
    """Run the job that the JSON file describes; returns its exit code."""
    job = json.loads(Path(arguments[0]).read_text())
    return Runner(job, dict(os.environ)).run()


class Runner:
    """One attempt of one job, or of one task of an array."""

    def __init__(self, job: dict[str, Any], environment: dict[str, str]) -> None:
        self._job, self._environment = job, environment
        self._task = environment.get("SLURM_ARRAY_TASK_ID") if job["chunks_of"] else None
        self._restarts = int(environment.get("SLURM_RESTART_COUNT", "0"))
        self._run = Path(job["run"])
        self._key = job["key"] if self._task is None else task_key(job["key"], self._task)
        before = read_attempt(self._run, self._key, self._id())
        self._faults = before.faults if before else self._restarts  # without a record, no more tries than by restarts
        self._signal: int | None = None
        self._warned_at = 0.0
        self._process: subprocess.Popen | None = None
        self._started = _now()
        self._node = environment.get("SLURMD_NODENAME", socket.gethostname())

    def run(self) -> int:
        """Run the recipe; requeue it, or hand over to the next training job, when it did not finish or a machine failed."""
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, self._warned)
        self._report(None)
        self._say(f"{self._key}: job {self._id()} on {self._node}, restart {self._restarts}")
        if self._job["recipe"] == "report":
            write_chain_file(self._run)
        code = self._end(self._recipe())
        self._report(code)
        self._say(f"{self._key}: exit code {code}")
        return code

    def _recipe(self) -> int:
        """The recipe's exit code, 128 + N when signal N killed it."""
        try:
            os.chdir(self._job["cwd"])
            self._process = subprocess.Popen(
                self._command(), env=self._recipe_environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            self._say(
                f"error: {error}. Fix: the directory and the interpreter of the submission must be on this node"
            )
            return 127
        if self._signal is not None:  # it came while the process was started
            self._process.send_signal(signal.SIGUSR1)
        reader = threading.Thread(target=_stamp, args=(self._process.stdout, sys.stdout.buffer), daemon=True)
        reader.start()
        code = self._wait(self._process)
        reader.join(_DRAIN_SECONDS)  # a process that it left behind may keep the pipe open
        return code if code >= 0 else 128 - code

    def _wait(self, process: subprocess.Popen) -> int:
        while True:
            try:
                return process.wait(1.0)
            except subprocess.TimeoutExpired:
                allowed = _SHARE_OF_WARNING * self._job["warning_seconds"]
                if self._signal is not None and time.monotonic() - self._warned_at > allowed:
                    self._say(f"{self._key}: has not stopped within {allowed:.0f} s; killed")
                    process.kill()

    def _warned(self, number: int, _: object) -> None:
        """SIGUSR1: the time limit is near. SIGTERM: preemption, or scancel. The recipe gets SIGUSR1,
        which srun hands on to a recipe in a container; SIGTERM would make srun kill it."""
        first = self._signal is None
        self._signal = number
        if first:
            self._warned_at = time.monotonic()
            if self._process is not None:
                self._process.send_signal(signal.SIGUSR1)

    def _end(self, code: int) -> int:
        if code in (0, EXIT_CODE):  # a mistake of the user's would be the same again
            return code
        if code not in (FAULT, UNFINISHED) and self._signal is None:
            return code
        if self._signal == signal.SIGTERM and not self._runs_still():
            return 128 + signal.SIGTERM  # scancel, or Slurm requeues it itself
        if self._signal is None and code == FAULT:
            return self._requeue(FAULT)
        if self._job["continued"] and self._signal != signal.SIGTERM:
            self._say(f"{self._key}: not finished; the next training job goes on")
            return 0
        return self._requeue(UNFINISHED)

    def _requeue(self, code: int) -> int:
        """Back into the queue, if it may; else the exit code."""
        what, spent = "not finished", self._restarts >= self._job["max_requeues"]
        if code == FAULT:
            self._faults += 1
            what = f"a fault of a machine or a server, number {self._faults}"
            spent |= self._faults > self._job["max_fault_requeues"]
        if spent or not self._job["requeue"]:
            self._say(f"{self._key}: {what}, and not requeued (restart {self._restarts}); nemo-cot submit goes on")
            return code
        self._say(f"{self._key}: {what}; requeued")
        self._report(code)  # now: Slurm ends this attempt
        try:
            scheduler.requeue(self._environment)
        except UserError as error:
            self._say(f"error: {error}")
            return code
        time.sleep(_REQUEUED_SECONDS)
        return code

    def _runs_still(self) -> bool:
        """Whether the job may go on: after scancel it may not be put back into the queue."""
        try:
            states = scheduler.job_states([self._id().partition("_")[0]])
        except UserError:
            return False
        mine = [state for found in states.values() for state in found if state.id == self._id()]
        return any(state.state == "RUNNING" for state in mine)

    def _id(self) -> str:
        if self._task is not None:
            return f"{self._environment['SLURM_ARRAY_JOB_ID']}_{self._task}"
        return self._environment.get("SLURM_JOB_ID", "0")

    def _command(self) -> list[str]:
        """The task's number comes out of Slurm's environment, as a number and nothing else."""
        if self._task is None:
            return self._job["command"]
        chunks = [f"{whole}/chunk-{int(self._task):03d}" for whole in self._job["chunks_of"]]
        return [*self._job["command"], *(word for chunk in chunks for word in ("--only", chunk))]

    def _recipe_environment(self) -> dict[str, str]:
        code = self._job["code"]
        paths = [code, self._environment.get("PYTHONPATH", "")]
        cores = int(self._environment.get("SLURM_CPUS_ON_NODE", "0")) // self._job["tasks_per_node"]
        added = {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONUNBUFFERED": "1",
            "NEMO_COT_CHAIN_JOB": self._key,  # nemo_cot/stages/lock.py; not imported, it needs libraries
            "SLURM_EXPORT_ENV": "ALL",  # else srun hands on the names of --export only, not what is added here
            # srun does not take over the job's --cpus-per-task: without it a step has one core per task.
            **({"SRUN_CPUS_PER_TASK": str(cores)} if cores else {}),
            **({"NEMO_COT_CONFIG_DIR": f"{code}/extra_conf"} if self._job["extra_conf"] else {}),
        }
        if node := scheduler.first_node(self._environment):
            added["MASTER_ADDR"] = node  # where the ranks of several nodes meet
        return {**self._environment, **added}

    def _report(self, code: int | None) -> None:
        ended = "" if code is None else _now()
        said = Attempt(self._id(), self._node, self._started, self._restarts, code, ended, self._faults)
        write_attempt(self._run, self._key, said)

    def _say(self, line: str) -> None:
        print(f"{_now()} {line}", flush=True)


def _stamp(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy lines, each behind the time at which it came; very long ones in pieces."""
    for line in iter(lambda: source.readline(1 << 16), b""):
        target.write(f"{_now()} ".encode() + line.rstrip(b"\n") + b"\n")
        target.flush()


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
