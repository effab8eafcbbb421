"""Run the programs of a NeMo backend, as argument lists: nothing goes through a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nemo_cot.errors import UserError
from nemo_cot.serving.process import held_locks, running


class Command(NamedTuple):
    """``environment`` is added to the caller's own; ``directory``: where it runs, None for here."""

    argv: list[str]
    environment: dict[str, str]
    directory: Path | None = None


def run_command(command: Command, environment: Mapping[str, str], *, stage: str = "train") -> None:
    """Run to the end. Raises UserError when the program is missing or fails.

    It ends with this process, however that ends, with all that it started; until then the locks on
    the run directory stay held. At a signal to stop it gets SIGTERM first, and passes it on.
    """
    _check_program(command, environment, stage)
    with running(
        command.argv,
        None,
        cwd=command.directory or Path.cwd(),
        environment={**environment, **command.environment},
        patience_seconds=_PATIENCE_SECONDS,
        keeps=held_locks(),
    ) as process:
        code = process.wait()
    if code:
        raise UserError(
            f"{command.argv[0]} ended with exit code {code}; its own messages are above",
            where=stage,
            fix="correct what they say, then run the same command again: it resumes from what was saved",
        )


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
