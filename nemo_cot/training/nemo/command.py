"""Run the programs of a NeMo backend, as argument lists: nothing goes through a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nemo_cot.errors import UNFINISHED, Fault, Unfinished, UserError
from nemo_cot.guard import gpu_fault
from nemo_cot.serving.process import Process, held_locks


class Command(NamedTuple):
    """``environment`` is added to the caller's own; ``directory``: where it runs, None for here."""

    argv: list[str]
    environment: dict[str, str]
    directory: Path | None = None


def run_command(
    command: Command, environment: Mapping[str, str], *, stage: str = "train", beside: Process | None = None,
    log: Path | None = None,
) -> None:  # fmt: skip
    """Run to the end. Raises UserError when the program is missing or fails, or when what it needs ``beside``
    it has ended before it; Fault where, by its output, kept in ``log``, a GPU failed or the network between them.

    It ends with this process, however that ends, with all that it started; until then the locks on
    the run directory stay held. At a signal to stop it gets SIGTERM first, and passes it on.
    """
    _check_program(command, environment, stage)
    if log is not None:
        log.unlink(missing_ok=True)  # an earlier attempt's
    with Process(
        command.argv,
        log,
        shown=True,
        cwd=command.directory or Path.cwd(),
        environment={**environment, **command.environment},
        patience_seconds=_PATIENCE_SECONDS,
        keeps=held_locks(),
    ) as process:
        code = process.wait() if beside is None else _wait_beside(process, beside, stage)
    if code == UNFINISHED and beside is not None:
        raise Unfinished("its nodes did not come together", where=stage, fix="run the same command again")
    if code:
        fault = gpu_fault(log.read_text(errors="replace")) if log is not None else ""
        raise (Fault if fault else UserError)(
            f"{command.argv[0]} ended with exit code {code}{fault and f' ({fault})'}; its own messages are above",
            where=stage,
            fix="correct what they say, then run the same command again: it resumes from what was saved",
        )


def _wait_beside(process: Process, beside: Process, stage: str) -> int:
    ended = None
    while (code := process.exit_code()) is None:
        if beside.exit_code() is not None:
            ended = ended or time.monotonic()
            if time.monotonic() - ended > _LAST_SECONDS:  # at the end both go, in any order
                raise Fault(
                    f"the other nodes ended with exit code {beside.exit_code()}: {beside.last_lines()}",
                    where=stage,
                    fix=f"read {beside.log}, then run the same command again: it resumes from what was saved",
                )
        time.sleep(0.5)
    return code


def srun(nodes: int, tasks: int, arguments: Sequence[str] = ()) -> list[str]:
    """srun over ``nodes`` of this job, with ``tasks`` in all.

    One task's failure ends the others: they would wait for it until the time limit.
    """
    per_node = tasks // nodes
    counts = [f"--nodes={nodes}", f"--ntasks={tasks}", f"--ntasks-per-node={per_node}"]
    return ["srun", *counts, "--kill-on-bad-exit=1", *arguments]


def job_port(environment: Mapping[str, str]) -> int:
    """A port of the Slurm job's own, which every node derives alike; below those that the kernel gives to
    connections (32768 and on). 29500 outside of a job.
    """
    return 20000 + int(environment["SLURM_JOB_ID"]) % 10000 if environment.get("SLURM_JOB_ID") else 29500


_LAST_SECONDS = 60.0
_PATIENCE_SECONDS = 35.0
"""torchrun kills ranks that do not end within 30 s of the SIGTERM that it passes on."""


def _check_program(command: Command, environment: Mapping[str, str], stage: str) -> None:
    """Raise UserError when the program, or the directory that it runs in, is not here."""
    directory, program = command.directory or Path.cwd(), command.argv[0]
    place = str(directory / program) if os.sep in program else program
    path = {**environment, **command.environment}.get("PATH", os.defpath)
    found = directory.is_dir() and shutil.which(place, path=path)
    if not found:
        raise UserError(
            f"there is no {program if directory.is_dir() else directory} here",
            where=stage,
            fix="run this stage in the training container, or correct train.python, "
            "train.process_launcher or train.nemo_rl_directory",
        )


def check_importable(prefix: list[str], python: str, modules: list[str], stage: str) -> None:
    """Raise UserError unless ``python``, started with ``prefix``, finds every module, and say which it does not."""
    probe = Command([*prefix, python, "-c", _PROBE, *modules], {})
    try:
        done = subprocess.run(probe.argv, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
        missing = done.stdout.strip().splitlines()[-1:] if done.returncode else []
        failed = done.returncode != 0
    except (OSError, subprocess.TimeoutExpired) as error:
        missing, failed = [str(error)], True
    if failed:
        raise UserError(
            f"{(missing or modules)[0]} cannot be imported by {python}",
            where=stage,
            fix="run this stage in the training container (docs/nemo.md), or correct train.python",
        )


_PROBE_SECONDS = 300
_PROBE = """
import importlib.util, sys
for name in sys.argv[1:]:
    try:
        found = importlib.util.find_spec(name)
    except ImportError:
        found = None
    if found is None:
        sys.exit(print(name) or 1)
"""
"""Finds modules without importing them (but their packages): NeMo's take seconds, and may want a GPU."""
