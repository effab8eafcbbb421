"""Publish a stage: its partial folder becomes the finished one, whatever moment a kill comes at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from nemo_cot.io.atomic import sync_directory, write_bytes
from nemo_cot.stages.manifest import MANIFEST, read_manifest
from nemo_cot.stages.rundir import RunDirectory

SCRATCH = "scratch"
"""Folder in a stage's partial folder for what only helps to resume; it is not published."""
_ATTEMPT = ".attempt.json"


class Attempt(msgspec.Struct):
    """What a partial folder was begun for, and how often."""

    fingerprint: str
    attempts: int


def read_attempt(partial: Path) -> Attempt | None:
    """None where there is none, or it is cut."""
    try:
        return msgspec.json.decode((partial / _ATTEMPT).read_bytes(), type=Attempt)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_attempt(partial: Path, attempt: Attempt) -> None:
    """Into a partial folder; :func:`publish` takes it out, last of all."""
    write_bytes(partial / _ATTEMPT, msgspec.json.encode(attempt))


def is_output(path: Path) -> bool:
    """Whether an entry of a partial folder is a result."""
    return not path.name.startswith(".") and path.name not in (SCRATCH, MANIFEST)


def publish(run: RunDirectory, name: str, partial: Path) -> None:
    """Remove what only helped to resume, rename twice, remove what is left over.

    The manifest is in place before, so :func:`recover` goes on after a kill in between.
    """
    _clean(partial)
    final, old = run.stage(name), run.old(name)
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(partial, final)
    sync_directory(final.parent)
    _remove_leftovers(run, name)


def _clean(partial: Path) -> None:
    """Remove what is not published: scratch files and hidden ones (cut temporary files)."""
    for path in partial.iterdir():
        if path.name == SCRATCH:
            shutil.rmtree(path)
        elif path.name.startswith(".") and path.name != _ATTEMPT:
            path.unlink()


def _remove_leftovers(run: RunDirectory, name: str) -> None:
    """The attempt's own file goes last: while it is there, the publication is not complete."""
    for leftover in (run.old(name), *run.partials(name)):
        shutil.rmtree(leftover, ignore_errors=True)
    (run.stage(name) / _ATTEMPT).unlink(missing_ok=True)


def recover(run: RunDirectory, name: str, fingerprint: str) -> None:
    """Complete, or take back, a publication that a kill cut short; remove what it left half-written."""
    partial, final, old = run.partial(name, fingerprint), run.stage(name), run.old(name)
    whole = read_manifest(partial)
    if whole is not None and whole.fingerprint == fingerprint:
        publish(run, name, partial)
    elif old.exists() and not final.exists():
        os.rename(old, final)
    elif (final / _ATTEMPT).exists():
        _remove_leftovers(run, name)
