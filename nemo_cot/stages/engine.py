"""Run one stage: skip it when its manifest matches, resume it when it was cut short, publish it whole.

A stage works in STAGE.partial-FINGERPRINT and becomes STAGE by one rename, after its manifest is written; so a
kill at any moment leaves the old stage, or a partial one to go on with, or the new one.
"""

from __future__ import annotations

import datetime
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nemo_cot.errors import UserError, one_line
from nemo_cot.image import image_record
from nemo_cot.io.atomic import sync_tree
from nemo_cot.io.hashing import Hasher
from nemo_cot.provenance import code_revision, hardware, package_versions
from nemo_cot.stages.adopt import adopt, other_with
from nemo_cot.stages.lock import stage_lock
from nemo_cot.stages.manifest import (
    MANIFEST,
    Artifact,
    Manifest,
    changes,
    damaged,
    describe,
    fingerprint_of,
    flatten,
    read_manifest,
    write_manifest,
)
from nemo_cot.stages.publish import Attempt, is_output, publish, read_attempt, recover, write_attempt
from nemo_cot.stages.rundir import RunDirectory


@dataclass(frozen=True)
class Stage:
    """What to run. ``work(folder)`` writes the outputs into ``folder`` and may find there what a
    former attempt with the same fingerprint left. ``config`` decides the result, ``settings`` do
    not; raise ``version`` when the code gives the same config another meaning. A stage that is not
    ``resumable`` finds an empty folder at every attempt. Folders named in ``listed`` are told
    apart by names and sizes alone: terabytes of checkpoints would take an hour to hash. ``parts`` are
    further inputs that decide nothing, kept in the manifest alone. ``notes`` say of a key of
    ``config`` (dotted) why a change of it counts.
    """

    name: str
    inputs: dict[str, Path]
    config: dict[str, Any]
    work: Callable[[Path], None]
    settings: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    resumable: bool = False
    listed: tuple[str, ...] = ()
    parts: dict[str, Path] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageResult:
    """``outcome`` is skipped, adopted, resumed or ran; ``reasons`` says why, a line each."""

    outcome: str
    reasons: list[str]
    manifest: Manifest


@dataclass(frozen=True)
class Plan:
    """What :func:`run_stage` would do: ``action`` is skip, adopt (from ``other``), resume or run.

    ``replaces``: a finished result of another config or other inputs makes way.
    """

    action: str
    reasons: list[str]
    other: RunDirectory | None = None
    replaces: bool = False


SETTLED = ("skip", "adopt")
"""Actions after which the stage's result is known."""


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
    plan = _settle(stage, run, inputs, hasher)
    say(one_line(f"[{stage.name}] " + _said(plan)))
    if plan.action in SETTLED:
        hasher.save()
        outcome = "skipped" if plan.action == "skip" else "adopted"
        return StageResult(outcome, plan.reasons, _manifest_of(run, stage.name))
    manifest = _work(stage, run, inputs, _fingerprint(stage, inputs), hasher)
    hasher.save()
    return StageResult("resumed" if plan.action == "resume" else "ran", plan.reasons, manifest)


def adopt_stage(stage: Stage, run: RunDirectory) -> Plan:
    """Adopt ``stage`` if another run has it, and give the plan that was carried out, or is to be.

    Raises OSError for a missing input, and as the file system does.
    """
    hasher = run.hasher()
    with stage_lock(run.path, stage.name):
        return _settle(stage, run, _described(stage, run, hasher), hasher)


def foresee(stage: Stage, run: RunDirectory) -> Plan:
    """What :func:`adopt_stage` would do; what would be adopted is borrowed, so that the stages behind it can
    be foreseen too. Raises OSError for a missing input. Writes nothing.
    """
    hasher = run.hasher()
    plan = plan_stage(stage, run, _described(stage, run, hasher), hasher)
    if plan.other is not None:
        run.borrow(stage.name, plan.other)
    return plan


def is_finished(stage: Stage, run: RunDirectory) -> bool:
    """Whether ``stage`` would be skipped or adopted. False for a missing input. Writes nothing."""
    if not may_be_finished(stage, run) or not all(path.exists() for path in stage.inputs.values()):
        return False
    hasher = run.hasher()
    return plan_stage(stage, run, _described(stage, run, hasher), hasher).action in SETTLED


def may_be_finished(stage: Stage, run: RunDirectory) -> bool:
    """Whether there is a manifest, here or in a run to adopt from: asked before inputs, models of 60 GB, are hashed."""
    return any((r.stage(stage.name) / MANIFEST).exists() for r in (run, *run.reuse))


def _described(stage: Stage, run: RunDirectory, hasher: Hasher) -> dict[str, Artifact]:
    return {label: describe(path, run.path, hasher) for label, path in stage.inputs.items()}


def _settle(stage: Stage, run: RunDirectory, inputs: dict[str, Artifact], hasher: Hasher) -> Plan:
    """Complete what was cut short, plan, and adopt if that is the plan."""
    recover(run, stage.name, _fingerprint(stage, inputs))
    return _adopt_if_planned(stage, run, inputs, hasher, plan_stage(stage, run, inputs, hasher))


def plan_stage(stage: Stage, run: RunDirectory, inputs: dict[str, Artifact], hasher: Hasher) -> Plan:
    """Decide between skip, adopt, resume and run, with the reasons; writes nothing."""
    plan = _plan_alone(stage, run, inputs, hasher)
    if plan.action == "skip":
        return plan
    other, said = other_with(stage.name, run, _fingerprint(stage, inputs), hasher)
    if other is not None:
        return Plan("adopt", said, other, plan.replaces)
    return replace(plan, reasons=[*plan.reasons, *said])


def _plan_alone(stage: Stage, run: RunDirectory, inputs: dict[str, Artifact], hasher: Hasher) -> Plan:
    fingerprint = _fingerprint(stage, inputs)
    old = read_manifest(run.stage(stage.name))
    if old is not None and old.fingerprint == fingerprint:
        reasons = [
            f"output {n} is missing or was changed" for n in damaged(old, run.stage(stage.name), hasher)
        ]
        return Plan("run", reasons) if reasons else Plan("skip", [f"unchanged since {old.finished_at}"])
    lines = [] if old is None else changes(old, stage.config, _digests(inputs), stage.version)
    reasons = [_noted(line, stage.notes) for line in lines]
    attempt = read_attempt(run.partial(stage.name, fingerprint))
    if attempt is not None and attempt.fingerprint == fingerprint and stage.resumable:
        return Plan("resume", [*reasons, f"attempt {attempt.attempts + 1}"], replaces=old is not None)
    return Plan("run", reasons, replaces=old is not None)


_VERBS = {"skip": "done, skipped", "resume": "resumes", "run": "runs"}


def _said(plan: Plan) -> str:
    if plan.action == "adopt":
        return f"adopted {'; '.join(plan.reasons)}"
    return "; ".join([_VERBS[plan.action], *plan.reasons])


def _noted(line: str, notes: dict[str, str]) -> str:
    note = notes.get(line.partition(": ")[0])
    return f"{line} ({note})" if note else line


def _adopt_if_planned(
    stage: Stage, run: RunDirectory, inputs: dict[str, Artifact], hasher: Hasher, plan: Plan
) -> Plan:
    """Carry out a plan to adopt. Where the other run has changed meanwhile: what is to be done without it."""
    fingerprint = _fingerprint(stage, inputs)
    if plan.other is None or adopt(stage.name, fingerprint, run, plan.other, inputs, hasher):
        return plan
    alone = _plan_alone(stage, run, inputs, hasher)
    return replace(alone, reasons=[*alone.reasons, f"{plan.other.path.name} has changed meanwhile"])


def _work(
    stage: Stage, run: RunDirectory, inputs: dict[str, Artifact], fingerprint: str, hasher: Hasher
) -> Manifest:
    partial = run.partial(stage.name, fingerprint)
    before = read_attempt(partial)
    if before is None or before.fingerprint != fingerprint or not stage.resumable:
        shutil.rmtree(partial, ignore_errors=True)
    if before is None or before.fingerprint != fingerprint:
        before = Attempt(fingerprint, 0)
    partial.mkdir(parents=True, exist_ok=True)
    attempt = Attempt(fingerprint, before.attempts + 1)
    write_attempt(partial, attempt)
    parts = {label: describe(path, run.path, hasher, part=True) for label, path in stage.parts.items()}
    inputs = {**inputs, **parts}
    started = time.monotonic()
    stage.work(partial)
    manifest = _manifest(stage, inputs, fingerprint, partial, hasher, attempt, time.monotonic() - started)
    sync_tree(partial)
    write_manifest(partial, manifest)
    publish(run, stage.name, partial)
    hasher.moved(partial, run.stage(stage.name))
    return manifest


def _manifest(
    stage: Stage,
    inputs: dict[str, Artifact],
    fingerprint: str,
    partial: Path,
    hasher: Hasher,
    attempt: Attempt,
    seconds: float,
) -> Manifest:
    outputs = {
        path.name: describe(path, partial, hasher, listed=path.name in stage.listed)
        for path in sorted(partial.iterdir())
        if is_output(path)
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
