"""Publish a stage: its partial folder becomes the finished one, safe against a kill at any moment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from nemo_cot.io.atomic import sync_directory, write_bytes
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.stages.manifest import MANIFEST, read_manifest
from nemo_cot.stages.rundir import RunDirectory

SCRATCH = "scratch"
"""Folder in a stage's partial folder for files that only serve resuming; it is not published."""
_ATTEMPT = ".attempt.json"


class Attempt(msgspec.Struct):
    """The fingerprint of a partial folder, and the number of attempts."""

    fingerprint: str
    attempts: int


def read_attempt(partial: Path) -> Attempt | None:
    """None if it is missing or damaged."""
    try:
        return msgspec.json.decode((partial / _ATTEMPT).read_bytes(), type=Attempt)
    except (FileNotFoundError, *DAMAGED):
        return None


def write_attempt(partial: Path, attempt: Attempt) -> None:
    """Into a partial folder; :func:`publish` removes it last."""
    write_bytes(partial / _ATTEMPT, msgspec.json.encode(attempt))


def is_output(path: Path) -> bool:
    """Whether an entry of a partial folder is a result."""
    return not path.name.startswith(".") and path.name not in (SCRATCH, MANIFEST)


def publish(run: RunDirectory, name: str, partial: Path) -> None:
    """Remove files that only served resuming, rename twice, remove leftovers.

    The manifest is written before, so :func:`recover` can complete this after a kill.
    """
    for path in partial.iterdir():
        if path.name == SCRATCH:
            shutil.rmtree(path)
        elif path.name.startswith(".") and path.name != _ATTEMPT:  # partial temporary files
            path.unlink()
    final, old = run.stage(name), run.old(name)
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(partial, final)
    sync_directory(final.parent)
    _remove_leftovers(run, name)


def _remove_leftovers(run: RunDirectory, name: str) -> None:
    """The attempt file goes last: while it exists, the publication is incomplete."""
    for leftover in (run.old(name), *run.partials(name)):
        shutil.rmtree(leftover, ignore_errors=True)
    (run.stage(name) / _ATTEMPT).unlink(missing_ok=True)


def recover(run: RunDirectory, name: str, fingerprint: str) -> None:
    """Complete or undo a publication that a kill interrupted, and remove its partial files."""
    partial, final, old = run.partial(name, fingerprint), run.stage(name), run.old(name)
    whole = read_manifest(partial)
    if whole is not None and whole.fingerprint == fingerprint:
        publish(run, name, partial)
    elif old.exists() and not final.exists():
        os.rename(old, final)
    elif (final / _ATTEMPT).exists():
        _remove_leftovers(run, name)
