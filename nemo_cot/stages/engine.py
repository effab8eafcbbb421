"""Run one stage: skip it when its manifest matches, resume it when it was cut short, publish it whole.

A stage works in STAGE.partial-FINGERPRINT and becomes STAGE by one rename, after its manifest is written; so a
kill at any moment leaves the old stage, a partial one to resume, or the new one.
"""

from __future__ import annotations

import functools
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
from nemo_cot.provenance import code_revision, hardware, package_versions, utc_now
from nemo_cot.stages.lock import stage_lock
from nemo_cot.stages.manifest import (
    MANIFEST,
    Artifact,
    Manifest,
    changes,
    damaged,
    describe,
    earlier_record,
    fingerprint_of,
    flatten,
    read_manifest,
    with_value,
    write_manifest,
)
from nemo_cot.stages.publish import Attempt, is_output, publish, read_attempt, recover, write_attempt
from nemo_cot.stages.reuse import other_with, reuse_from
from nemo_cot.stages.rundir import RunDirectory
from nemo_cot.stages.stage import EARLIER, Stage

_MOMENT_SECONDS = 2.0
SETTLED = ("skip", "reuse")
"""Actions after which a stage's result is known."""


@dataclass(frozen=True)
class StageResult:
    """``outcome`` is skipped, reused, resumed or ran; ``reasons``: why, one line each."""

    outcome: str
    reasons: list[str]
    manifest: Manifest


@dataclass(frozen=True)
class Plan:
    """What :func:`run_stage` would do: ``action`` is skip, reuse (from ``other``), resume or run.

    ``replaces``: it replaces a finished result of another config or other inputs.
    """

    action: str
    reasons: list[str]
    other: RunDirectory | None = None
    replaces: bool = False

    @property
    def settled(self) -> bool:
        """Whether the stage's result is known already."""
        return self.action in SETTLED


_SHOW = functools.partial(print, flush=True)


def run_stage(stage: Stage, run: RunDirectory, *, show: Callable[[str], None] = _SHOW) -> StageResult:
    """Bring ``stage`` up to date in ``run``; ``show`` gets one line: what is done, and why.

    One process at a time: others wait, and skip what was finished meanwhile. Raises UserError
    for a missing input or a stage that stays in use, and whatever the stage's own work raises.
    """
    image_record()  # a mistyped digest is refused now, not after hours of work
    with stage_lock(run.path, stage.name):
        ready = _Ready(stage, run)
        plan = ready.decide()
        words = [f"reused {plan.reasons[0]}"] if plan.action == "reuse" else [_VERBS[plan.action], *plan.reasons]
        show(one_line(f"[{stage.name}] {'; '.join(words)}"))
        manifest = read_manifest(run.stage(stage.name)) if plan.settled else ready.work()
        ready.hasher.save()
        assert manifest is not None
        return StageResult(_OUTCOMES[plan.action], plan.reasons, manifest)


_VERBS = {"skip": "done, skipped", "resume": "resumes", "run": "runs"}
_OUTCOMES = {"skip": "skipped", "reuse": "reused", "resume": "resumed", "run": "ran"}


def reuse_stage(stage: Stage, run: RunDirectory) -> Plan:
    """Reuse ``stage`` from another run if one has it. Returns the plan that was, or will be, carried out.

    Raises UserError for a missing input, and OSError as the file system does.
    """
    if not _may_have_begun(stage, run):
        return Plan("run", [])
    with stage_lock(run.path, stage.name):
        return _Ready(stage, run).decide()


def look_at(stage: Stage, run: RunDirectory) -> Plan:
    """What :func:`run_stage` would do. From now on ``run`` reads a stage that would be reused from the
    other run, so that later stages can be planned too. Writes nothing. Raises UserError for a missing input.
    """
    if not _may_have_begun(stage, run):
        _paths(stage, run)
        return Plan("run", [])
    with _printed_when_long(f"  hashing the inputs of {stage.name}, to compare them with those of the last run"):
        plan = _Ready(stage, run).plan()
    if plan.other is not None:
        run.read_from(stage.name, plan.other)
    return plan


def _may_have_begun(stage: Stage, run: RunDirectory) -> bool:
    """Checked before inputs, models of 60 GB, are hashed."""
    return bool(run.partials(stage.name)) or any(
        (r.stage(stage.name) / MANIFEST).exists() for r in (run, *run.reuse)
    )


@contextmanager
def _printed_when_long(line: str) -> Iterator[None]:
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


class _Ready:
    """A stage in its run, with its inputs hashed. Raises UserError for a missing one."""

    def __init__(self, stage: Stage, run: RunDirectory) -> None:
        self.stage, self.run, self.hasher = stage, run, run.hasher()
        self.paths = _paths(stage, run)
        self.inputs = {label: describe(path, run.path, self.hasher) for label, path in self.paths.items()}
        self.digests = {label: artifact.sha256 for label, artifact in self.inputs.items()}
        self.fingerprint = fingerprint_of(stage.name, stage.version, stage.config, self.digests)

    def plan(self) -> Plan:
        """Decide between skip, reuse, resume and run, with the reasons; writes nothing."""
        plan = self._plan_alone()
        if plan.action == "skip":
            return plan
        other, notes = other_with(self.stage.name, self.run, self.fingerprint, self.hasher)
        if other is not None:
            return Plan("reuse", notes, other, plan.replaces)
        return replace(plan, reasons=[*plan.reasons, *notes])

    def _plan_alone(self) -> Plan:
        stage, folder = self.stage, self.run.stage(self.stage.name)
        old = read_manifest(folder)
        if old is not None and old.fingerprint == self.fingerprint:
            bad = [f"output {name} is missing or was changed" for name in damaged(old, folder, self.hasher)]
            return Plan("run", bad) if bad else Plan("skip", [f"unchanged since {old.finished_at}"])
        reasons = [] if old is None else changes(old, stage.config, self.digests, stage.version)
        reasons = [_noted(line, stage.notes) for line in reasons]
        if self.earlier is not None:
            other, there = self.earlier
            key = stage.earlier.key
            of = "" if other.path == self.run.path else f" in {other.path.name}"
            reasons.append(f"keeps what is there with {key}={flatten(there.config)[key]}{of}")
        attempt = read_attempt(self.run.partial(stage.name, self.fingerprint))
        if attempt is not None and attempt.fingerprint == self.fingerprint and stage.resumable:
            return Plan("resume", [*reasons, f"attempt {attempt.attempts + 1}"], replaces=old is not None)
        return Plan("run", reasons, replaces=old is not None)

    @functools.cached_property
    def earlier(self) -> tuple[RunDirectory, Manifest] | None:
        """The result that stage.earlier describes, whole, and the run that has it; None without one."""
        wanted, found = self.stage.earlier, []
        for run in (self.run, *self.run.reuse) if wanted is not None else ():
            folder = run.stage(wanted.stage)
            try:
                there = read_manifest(folder)
                value = flatten(there.config).get(wanted.key) if there is not None else None
                if value is None or there.fingerprint != fingerprint_of(
                    wanted.stage, self.stage.version, with_value(wanted.config, wanted.key, value), self.digests
                ):
                    continue
                found += [] if damaged(there, folder, self.hasher) else [(value, run, there)]
            except (UserError, FileNotFoundError):  # damaged, or being replaced
                continue
        return max(found, key=lambda each: each[0])[1:] if found else None

    def decide(self) -> Plan:
        """Complete what was interrupted, plan, and reuse if that is the plan."""
        name = self.stage.name
        recover(self.run, name, self.fingerprint)
        plan = self.plan()
        if plan.other is None or reuse_from(
            name, self.fingerprint, self.run, plan.other, self.inputs, self.hasher
        ):
            return plan
        alone = self._plan_alone()  # the other run has changed meanwhile
        return replace(alone, reasons=[*alone.reasons, f"{plan.other.path.name} has changed meanwhile"])

    def work(self) -> Manifest:
        """Do the stage's work, and publish it."""
        stage, run, hasher = self.stage, self.run, self.hasher
        partial, attempt = self._begin()
        parts = {label: run.resolve(source, label) for label, source in stage.parts.items()}
        described = {label: describe(path, run.path, hasher, part=True) for label, path in parts.items()}
        kept = {EARLIER: self.earlier[0].stage(stage.earlier.stage)} if self.earlier is not None else {}
        started = time.monotonic()
        stage.work(partial, {**self.paths, **parts, **kept})
        seconds = time.monotonic() - started
        manifest = self._manifest(partial, attempt, described, seconds)
        if stage.compare is not None and run.stage(stage.name).is_dir():
            stage.compare(run.stage(stage.name), partial)
        sync_tree(partial)
        write_manifest(partial, manifest)
        publish(run, stage.name, partial)
        hasher.moved(partial, run.stage(stage.name))
        return manifest

    def _begin(self) -> tuple[Path, Attempt]:
        """The folder to work in: with the files of an earlier attempt if the stage can resume from them, else empty."""
        partial = self.run.partial(self.stage.name, self.fingerprint)
        before = read_attempt(partial)
        same = before is not None and before.fingerprint == self.fingerprint
        if not same or not self.stage.resumable:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        attempt = Attempt(self.fingerprint, before.attempts + 1 if before is not None and same else 1)
        write_attempt(partial, attempt)
        return partial, attempt

    def _manifest(
        self, partial: Path, attempt: Attempt, parts: dict[str, Artifact], seconds: float
    ) -> Manifest:
        stage = self.stage
        outputs = {
            path.name: describe(path, partial, self.hasher, listed=path.name in stage.listed)
            for path in sorted(partial.iterdir())
            if is_output(path)
        }
        if missing := [n for n in stage.writes if n not in outputs] or ([] if outputs else ["output"]):
            raise UserError(f"the stage wrote no {missing[0]}", where=stage.name, fix="report this as a bug")
        flat, earlier = flatten(stage.config), None
        if self.earlier is not None:
            (run, there), wanted = self.earlier, stage.earlier
            earlier = earlier_record(run.stage(wanted.stage), there, wanted.key)
        return Manifest(
            stage=stage.name,
            stage_version=stage.version,
            fingerprint=self.fingerprint,
            config=stage.config,
            settings=stage.settings,
            inputs={**self.inputs, **parts},
            outputs=outputs,
            seeds={key: value for key, value in flat.items() if key.split(".")[-1] == "seed"},
            code=code_revision(),
            packages=package_versions(),
            hardware=hardware(),
            image=image_record(),
            earlier=earlier,
            finished_at=utc_now(),
            wall_seconds=round(seconds, 3),
            attempts=attempt.attempts,
        )


def _noted(line: str, notes: dict[str, str]) -> str:
    note = notes.get(line.partition(": ")[0])
    return f"{line} ({note})" if note else line
