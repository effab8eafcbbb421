"""Run one stage: skip it when its manifest matches, resume it when it was cut short, publish it whole.

A stage works in STAGE.partial-FINGERPRINT and becomes STAGE by one rename, after its manifest is written; so a
kill at any moment leaves the old stage, or a partial one to go on with, or the new one.
"""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.errors import UserError, one_line
from nemo_cot.image import image_record
from nemo_cot.io.atomic import sync_directory, sync_tree, write_bytes
from nemo_cot.io.hashing import Hasher
from nemo_cot.provenance import code_revision, hardware, package_versions
from nemo_cot.stages.lock import stage_lock
from nemo_cot.stages.manifest import (
    MANIFEST,
    Artifact,
    Manifest,
    changes,
    describe,
    fingerprint_of,
    flatten,
    read_manifest,
    write_manifest,
)
from nemo_cot.stages.rundir import RunDirectory

SCRATCH = "scratch"
"""Folder in a stage's partial folder for what only helps to resume; it is not published."""
_ATTEMPT = ".attempt.json"


@dataclass(frozen=True)
class Stage:
    """What to run. ``work(folder)`` writes the outputs into ``folder`` and may find there what a
    former attempt with the same fingerprint left. ``config`` decides the result, ``settings`` do
    not; raise ``version`` when the code gives the same config another meaning. A stage that is not
    ``resumable`` finds an empty folder at every attempt. Folders named in ``listed`` are told
    apart by names and sizes alone: terabytes of checkpoints would take an hour to hash.
    """

    name: str
    inputs: dict[str, Path]
    config: dict[str, Any]
    work: Callable[[Path], None]
    settings: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    resumable: bool = False
    listed: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageResult:
    """``outcome`` is skipped, resumed or ran; ``reasons`` says why, a line each."""

    outcome: str
    reasons: list[str]
    manifest: Manifest


class _Attempt(msgspec.Struct):
    """What a partial folder was begun for, and how often."""

    fingerprint: str
    attempts: int


@dataclass(frozen=True)
class Plan:
    """What :func:`run_stage` would do: ``action`` is skip, resume or run."""

    action: str
    reasons: list[str]


def run_stage(stage: Stage, run: RunDirectory, *, say: Callable[[str], None] = print) -> StageResult:
    """Bring ``stage`` up to date in ``run``; ``say`` gets one line on what is done and why.

    One process at a time: another one waits, and skips what was finished meanwhile. Raises UserError
    for a missing input or a stage that stays in use, and whatever the stage's own work raises.
    """
    image_record()  # a digest mistyped is refused now, not after hours of work
    with stage_lock(run.path, stage.name):
        return _run_alone(stage, run, say)


def _run_alone(stage: Stage, run: RunDirectory, say: Callable[[str], None]) -> StageResult:
    hasher = run.hasher()
    inputs = {label: describe(path, run.path, hasher) for label, path in _existing(stage.inputs).items()}
    fingerprint = _fingerprint(stage, inputs)
    _recover(run, stage.name, fingerprint)
    plan = plan_stage(stage, run, inputs, hasher)
    say(one_line(f"[{stage.name}] " + "; ".join([_VERBS[plan.action], *plan.reasons])))
    if plan.action == "skip":
        hasher.save()
        return StageResult("skipped", plan.reasons, _manifest_of(run, stage.name))
    manifest = _work(stage, run, inputs, fingerprint, hasher)
    hasher.save()
    return StageResult("resumed" if plan.action == "resume" else "ran", plan.reasons, manifest)


def plan_stage(stage: Stage, run: RunDirectory, inputs: dict[str, Artifact], hasher: Hasher) -> Plan:
    """Decide between skip, resume and run, with the reasons; writes nothing."""
    fingerprint = _fingerprint(stage, inputs)
    old = read_manifest(run.stage(stage.name))
    if old is not None and old.fingerprint == fingerprint:
        damaged = _damaged(old, run.stage(stage.name), hasher)
        if not damaged:
            return Plan("skip", [f"unchanged since {old.finished_at}"])
        return Plan("run", [f"output {name} is missing or was changed" for name in damaged])
    reasons = [] if old is None else changes(old, stage.config, _digests(inputs), stage.version)
    attempt = _read_attempt(run.partial(stage.name, fingerprint))
    if attempt is not None and attempt.fingerprint == fingerprint and stage.resumable:
        return Plan("resume", [*reasons, f"attempt {attempt.attempts + 1}"])
    return Plan("run", reasons)


_VERBS = {"skip": "done, skipped", "resume": "resumes", "run": "runs"}


def _work(
    stage: Stage, run: RunDirectory, inputs: dict[str, Artifact], fingerprint: str, hasher: Hasher
) -> Manifest:
    partial = run.partial(stage.name, fingerprint)
    before = _read_attempt(partial)
    if before is None or before.fingerprint != fingerprint or not stage.resumable:
        shutil.rmtree(partial, ignore_errors=True)
    if before is None or before.fingerprint != fingerprint:
        before = _Attempt(fingerprint, 0)
    partial.mkdir(parents=True, exist_ok=True)
    attempt = _Attempt(fingerprint, before.attempts + 1)
    write_bytes(partial / _ATTEMPT, msgspec.json.encode(attempt))
    started = time.monotonic()
    stage.work(partial)
    manifest = _manifest(stage, inputs, fingerprint, partial, hasher, attempt, time.monotonic() - started)
    sync_tree(partial)
    write_manifest(partial, manifest)
    _publish(run, stage.name, partial)
    return manifest


def _manifest(
    stage: Stage,
    inputs: dict[str, Artifact],
    fingerprint: str,
    partial: Path,
    hasher: Hasher,
    attempt: _Attempt,
    seconds: float,
) -> Manifest:
    outputs = {
        path.name: describe(path, partial, hasher, listed=path.name in stage.listed)
        for path in sorted(partial.iterdir())
        if _is_output(path)
    }
    if not outputs:
        raise UserError("the stage wrote no output", where=stage.name, fix="report this as a bug")
    flat = flatten(stage.config)
    return Manifest(
        stage=stage.name,
        stage_version=stage.version,
        fingerprint=fingerprint,
        config=stage.config,
        settings=stage.settings,
        inputs=inputs,
        outputs=outputs,
        seeds={key: value for key, value in flat.items() if key.split(".")[-1] == "seed"},
        code=code_revision(),
        packages=package_versions(),
        hardware=hardware(),
        image=image_record(),
        finished_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        wall_seconds=round(seconds, 3),
        attempts=attempt.attempts,
    )


def _is_output(path: Path) -> bool:
    return not path.name.startswith(".") and path.name not in (SCRATCH, MANIFEST)


def _clean(partial: Path) -> None:
    """Remove what is not published: scratch files and hidden ones (cut temporary files)."""
    for path in partial.iterdir():
        if path.name == SCRATCH:
            shutil.rmtree(path)
        elif path.name.startswith(".") and path.name != _ATTEMPT:
            path.unlink()


def _publish(run: RunDirectory, name: str, partial: Path) -> None:
    """Remove what only helped to resume, rename twice, remove what is left over.

    The manifest is in place before, so :func:`_recover` goes on after a kill in between.
    """
    _clean(partial)
    final, old = run.stage(name), run.old(name)
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(partial, final)
    sync_directory(final.parent)
    _remove_leftovers(run, name)


def _remove_leftovers(run: RunDirectory, name: str) -> None:
    """The attempt's own file goes last: while it is there, the publication is not complete."""
    for leftover in (run.old(name), *run.partials(name)):
        shutil.rmtree(leftover, ignore_errors=True)
    (run.stage(name) / _ATTEMPT).unlink(missing_ok=True)


def _recover(run: RunDirectory, name: str, fingerprint: str) -> None:
    """Complete, or take back, a publication that a kill cut short; remove what it left half-written."""
    partial, final, old = run.partial(name, fingerprint), run.stage(name), run.old(name)
    whole = read_manifest(partial)
    if whole is not None and whole.fingerprint == fingerprint:
        _publish(run, name, partial)
    elif old.exists() and not final.exists():
        os.rename(old, final)
    elif (final / _ATTEMPT).exists():
        _remove_leftovers(run, name)


def _read_attempt(partial: Path) -> _Attempt | None:
    try:
        return msgspec.json.decode((partial / _ATTEMPT).read_bytes(), type=_Attempt)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _damaged(manifest: Manifest, folder: Path, hasher: Hasher) -> list[str]:
    def intact(artifact: Artifact) -> bool:
        path = folder / artifact.path
        digest = hasher.listing if artifact.listed else hasher.sha256
        return path.exists() and digest(path) == artifact.sha256

    return [name for name, artifact in manifest.outputs.items() if not intact(artifact)]


def _existing(inputs: dict[str, Path]) -> dict[str, Path]:
    for label, path in inputs.items():
        if not path.exists():
            raise UserError(
                f"input {label} is missing",
                where=str(path),
                fix="check the path, or run the stage that writes it",
            )
    return inputs


def _fingerprint(stage: Stage, inputs: dict[str, Artifact]) -> str:
    return fingerprint_of(stage.name, stage.version, stage.config, _digests(inputs))


def _digests(inputs: dict[str, Artifact]) -> dict[str, str]:
    return {label: artifact.sha256 for label, artifact in inputs.items()}


def _manifest_of(run: RunDirectory, name: str) -> Manifest:
    manifest = read_manifest(run.stage(name))
    assert manifest is not None
    return manifest
