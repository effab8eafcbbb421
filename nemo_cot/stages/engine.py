"""Run one stage: skip it when its manifest matches, resume it when it was cut short, publish it whole.

A stage works in STAGE.partial-FINGERPRINT and becomes STAGE by one rename, after its manifest is written; so a
kill at any moment leaves the old stage, or a partial one to go on with, or the new one.
"""

from __future__ import annotations

import datetime
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nemo_cot.errors import UserError, one_line
from nemo_cot.image import image_record
from nemo_cot.io.atomic import sync_tree
from nemo_cot.io.hashing import Hasher
from nemo_cot.provenance import code_revision, hardware, package_versions
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
from nemo_cot.stages.reuse import other_with, take_over
from nemo_cot.stages.rundir import RunDirectory
from nemo_cot.stages.stage import Stage

_MOMENT_SECONDS = 2.0


@dataclass(frozen=True)
class StageResult:
    """``outcome`` is skipped, reused, resumed or ran; ``reasons`` says why, a line each."""

    outcome: str
    reasons: list[str]
    manifest: Manifest


@dataclass(frozen=True)
class Plan:
    """What :func:`run_stage` would do: ``action`` is skip, reuse (from ``other``), resume or run.

    ``replaces``: a finished result of another config or other inputs makes way.
    """

    action: str
    reasons: list[str]
    other: RunDirectory | None = None
    replaces: bool = False

    @property
    def settled(self) -> bool:
        """Whether the stage's result is known already."""
        return self.action in ("skip", "reuse")


def run_stage(stage: Stage, run: RunDirectory, *, say: Callable[[str], None] = print) -> StageResult:
    """Bring ``stage`` up to date in ``run``; ``say`` gets one line on what is done and why.

    One process at a time: another one waits, and skips what was finished meanwhile. Raises UserError
    for a missing input or a stage that stays in use, and whatever the stage's own work raises.
    """
    image_record()  # a digest mistyped is refused now, not after hours of work
    with stage_lock(run.path, stage.name):
        hasher = run.hasher()
        paths = _paths(stage, run)
        inputs = _described(paths, run, hasher)
        plan = _settle(stage, run, inputs, hasher)
        say(one_line(f"[{stage.name}] {_words(plan)}"))
        if plan.settled:
            hasher.save()
            manifest = read_manifest(run.stage(stage.name))
            assert manifest is not None
            return StageResult("skipped" if plan.action == "skip" else "reused", plan.reasons, manifest)
        manifest = _work(stage, run, paths, inputs, hasher)
        hasher.save()
        return StageResult("resumed" if plan.action == "resume" else "ran", plan.reasons, manifest)


def reuse_stage(stage: Stage, run: RunDirectory) -> Plan:
    """Take ``stage`` over from another run if one has it, and give the plan that was carried out, or is to be.

    Raises UserError for a missing input, and OSError as the file system does.
    """
    if not _may_have_begun(stage, run):
        return Plan("run", [])
    hasher = run.hasher()
    with stage_lock(run.path, stage.name):
        return _settle(stage, run, _described(_paths(stage, run), run, hasher), hasher)


def look_at(stage: Stage, run: RunDirectory) -> Plan:
    """What :func:`run_stage` would do. What would be reused is read where it lies from now on, so that the
    stages behind it can be planned too. Writes nothing. Raises UserError for a missing input.
    """
    paths = _paths(stage, run)
    if not _may_have_begun(stage, run):
        return Plan("run", [])
    hasher = run.hasher()
    with _said_when_long(f"  hashing the inputs of {stage.name}, to compare them with the last run's"):
        plan = plan_stage(stage, run, _described(paths, run, hasher), hasher)
    if plan.other is not None:
        run.borrow(stage.name, plan.other)
    return plan


def _may_have_begun(stage: Stage, run: RunDirectory) -> bool:
    """Asked before inputs, models of 60 GB, are hashed."""
    return bool(run.partials(stage.name)) or any(
        (r.stage(stage.name) / MANIFEST).exists() for r in (run, *run.reuse)
    )


@contextmanager
def _said_when_long(line: str) -> Iterator[None]:
    """Print ``line`` when the body takes longer than a moment."""
    timer = threading.Timer(_MOMENT_SECONDS, print, (line,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _paths(stage: Stage, run: RunDirectory) -> dict[str, Path]:
    """The inputs of ``stage`` by label. Raises UserError for what is missing."""
    paths = {label: run.resolve(source, label) for label, source in stage.inputs.items()}
    return paths if stage.found is None else {**paths, **stage.found(run)}


def _described(paths: dict[str, Path], run: RunDirectory, hasher: Hasher) -> dict[str, Artifact]:
    return {label: describe(path, run.path, hasher) for label, path in paths.items()}


def _settle(stage: Stage, run: RunDirectory, inputs: dict[str, Artifact], hasher: Hasher) -> Plan:
    """Complete what was cut short, plan, and reuse if that is the plan."""
    fingerprint = _fingerprint(stage, inputs)
    recover(run, stage.name, fingerprint)
    plan = plan_stage(stage, run, inputs, hasher)
    if plan.other is None or take_over(stage.name, fingerprint, run, plan.other, inputs, hasher):
        return plan
    alone = _plan_alone(stage, run, inputs, hasher)  # the other run has changed meanwhile
    return replace(alone, reasons=[*alone.reasons, f"{plan.other.path.name} has changed meanwhile"])


def plan_stage(stage: Stage, run: RunDirectory, inputs: dict[str, Artifact], hasher: Hasher) -> Plan:
    """Decide between skip, reuse, resume and run, with the reasons; writes nothing."""
    plan = _plan_alone(stage, run, inputs, hasher)
    if plan.action == "skip":
        return plan
    other, said = other_with(stage.name, run, _fingerprint(stage, inputs), hasher)
    if other is not None:
        return Plan("reuse", said, other, plan.replaces)
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


_VERBS = {"skip": "done, skipped", "reuse": "reused", "resume": "resumes", "run": "runs"}


def _words(plan: Plan) -> str:
    if plan.action == "reuse":
        return f"reused {'; '.join(plan.reasons)}"
    return "; ".join([_VERBS[plan.action], *plan.reasons])


def _noted(line: str, notes: dict[str, str]) -> str:
    note = notes.get(line.partition(": ")[0])
    return f"{line} ({note})" if note else line


def _work(
    stage: Stage, run: RunDirectory, paths: dict[str, Path], inputs: dict[str, Artifact], hasher: Hasher
) -> Manifest:
    fingerprint = _fingerprint(stage, inputs)
    partial = run.partial(stage.name, fingerprint)
    before = read_attempt(partial)
    if before is None or before.fingerprint != fingerprint or not stage.resumable:
        shutil.rmtree(partial, ignore_errors=True)
    if before is None or before.fingerprint != fingerprint:
        before = Attempt(fingerprint, 0)
    partial.mkdir(parents=True, exist_ok=True)
    attempt = Attempt(fingerprint, before.attempts + 1)
    write_attempt(partial, attempt)
    parts = {label: run.resolve(source, label) for label, source in stage.parts.items()}
    described = {label: describe(path, run.path, hasher, part=True) for label, path in parts.items()}
    started = time.monotonic()
    stage.work(partial, {**paths, **parts})
    inputs = {**inputs, **described}
    manifest = _manifest(stage, inputs, fingerprint, partial, hasher, attempt, time.monotonic() - started)
    if stage.compare is not None and run.stage(stage.name).is_dir():
        stage.compare(run.stage(stage.name), partial)
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
    if missing := [name for name in stage.writes if name not in outputs] or ([] if outputs else ["output"]):
        raise UserError(f"the stage wrote no {missing[0]}", where=stage.name, fix="report this as a bug")
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


def _fingerprint(stage: Stage, inputs: dict[str, Artifact]) -> str:
    return fingerprint_of(stage.name, stage.version, stage.config, _digests(inputs))


def _digests(inputs: dict[str, Artifact]) -> dict[str, str]:
    return {label: artifact.sha256 for label, artifact in inputs.items()}
