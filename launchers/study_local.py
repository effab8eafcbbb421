"""Run the runs of a study on this machine: what they have in common once, a failed run without harm to the others.

Each run is a chain as `nemo-cot run` makes it. Before a recipe starts, its stages that another run of the study
has finished are reused; one that another run is making now is waited for. A stage that fails is tried by one
more run (the failure may have been that run's own), and by no third. Killing this process kills all recipes;
the same command resumes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.compose import to_yaml
from nemo_cot.experiment.graph import Graph
from nemo_cot.experiment.planner import plan_chain
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.experiment.sharing import PlannedRun, StudyPlan
from nemo_cot.io.atomic import write_bytes
from nemo_cot.launchers.local import run_recipe_process, run_recipes, stop_recipes
from nemo_cot.launchers.slurm.live import refuse_live_jobs
from nemo_cot.records import StageEnd
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import run_lock
from nemo_cot.stages.manifest import MANIFEST

LOG = "study.log"
"""In a run's directory: what its recipes print while other runs go on beside it."""
_MOST_TRIES = 2


@dataclass
class Shared:
    """The state of every stage of the study, by key; all methods may be called from several threads."""

    done: dict[str, Path]
    tries: dict[str, int] = field(default_factory=dict)
    working: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    stop: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def claim(self, run: str, keys: Iterable[str]) -> str | None:
        """Wait until no other run works on any of ``keys``, and claim those that are not done. Returns the run in
        which one of them has failed for good, with nothing claimed. Raises KeyboardInterrupt at the end of all.
        """
        wanted = set(keys)
        with self.changed:
            while any(self.working.get(key, run) != run for key in wanted):
                if self.stop:
                    raise KeyboardInterrupt
                self.changed.wait(1.0)
            if bad := next((self.failed[key] for key in wanted if key in self.failed), None):
                return bad
            self.working.update({key: run for key in wanted if key not in self.done})
            return None

    def ended(self, run: RunDirectory, name: str, keys: dict[str, str]) -> None:
        """``run`` no longer works on the stages ``keys`` (key by stage): each is done, free, or failed for good."""
        with self.changed:
            for stage, key in keys.items():
                if self.working.pop(key, None) is None:
                    continue
                if (run.stage(stage) / MANIFEST).exists():
                    self.done[key] = run.path
                    continue
                self.tries[key] = self.tries.get(key, 0) + 1
                if self.tries[key] >= _MOST_TRIES:
                    self.failed[key] = name
            self.changed.notify_all()

    def halt(self) -> None:
        """Let no run wait any longer."""
        with self.changed:
            self.stop = True
            self.changed.notify_all()


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: finished, failed (with the stage), or interrupted."""

    name: str
    outcome: str
    seconds: float


def run_planned(plan: StudyPlan, jobs: int) -> list[RunEnd]:
    """Bring every chosen run up to date, ``jobs`` at a time; how each ended, in order. Raises KeyboardInterrupt."""
    todo = [planned for planned in plan.chosen if not planned.settled]
    jobs, notes = _side_by_side(plan, min(jobs, max(1, len(todo))))
    for note in notes:
        print(one_line(note), flush=True)
    counts = Counter(key for planned in plan.runs for key in planned.keys.values())
    common = {key for key, count in counts.items() if count > 1}
    shared = Shared(
        {
            key: run_directory(p.cfg).path
            for p in plan.runs
            for stage, key in p.keys.items()
            if key in common and (step := p.steps.get(stage)) is not None and step.action == "skip"
        }
    )
    ends: dict[str, RunEnd] = {p.name: RunEnd(p.name, "finished before", 0.0) for p in plan.chosen}
    free: SimpleQueue[str | None] = SimpleQueue()  # a device of its own for each run, where there are any
    for device in (_devices() if jobs > 1 else []) or [None] * jobs:
        free.put(device)

    def work(planned: PlannedRun) -> None:
        device = free.get()
        try:
            runner = _Runner(planned, shared, common, _environment(jobs, device), quiet=jobs > 1)
            ends[planned.name] = end = runner.run()
        finally:
            free.put(device)
        done = sum(e.seconds > 0 for e in ends.values())
        print(one_line(f"run {done} of {len(todo)}: {end.name} {end.outcome} after {end.seconds:.0f} s"), flush=True)

    if jobs == 1:
        for planned in todo:
            work(planned)
            if ends[planned.name].outcome == "interrupted":
                raise KeyboardInterrupt
        return list(ends.values())
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(work, planned) for planned in todo]
        try:
            for future in futures:
                future.result()
        except BaseException:
            shared.halt()
            stop_recipes()
            for future in futures:
                future.cancel()
            raise
    return list(ends.values())


class _Runner:
    """One run: its recipes in order, each after what it shares is there."""

    def __init__(
        self, planned: PlannedRun, shared: Shared, common: set[str], environment: dict[str, str], *, quiet: bool
    ) -> None:
        self.planned, self.shared, self.environment = planned, shared, environment
        self.run_dir = run_directory(planned.cfg)
        self.common = {stage: key for stage, key in planned.keys.items() if key in common}
        self.log = self.run_dir.path / LOG if quiet else None
        self.busy = False

    def run(self) -> RunEnd:
        started = time.monotonic()
        print(one_line(f"run {self.planned.name}: {self.run_dir.path}"), flush=True)
        try:
            refuse_live_jobs(self.run_dir.path, may_lack_slurm=True)
            with run_lock(self.run_dir.create().path) as lock:
                refuse_live_jobs(self.run_dir.path, may_lack_slurm=True)
                write_bytes(self.run_dir.path / "config.yaml", to_yaml(self.planned.tree()).encode())
                ended = run_recipes(self.planned.chain, self.run_dir, lambda recipe: self._recipe(recipe, lock))
                outcome = self._outcome(ended)
        except UserError as error:
            outcome = f"failed: {error}"
        except KeyboardInterrupt:
            outcome = "interrupted"
        return RunEnd(self.planned.name, outcome, max(0.001, time.monotonic() - started))

    def _outcome(self, ended: Sequence[StageEnd]) -> str:
        if self.shared.stop or any(end.outcome == "interrupted" for end in ended):
            return "interrupted"
        bad = next((end for end in ended if end.outcome != "ok"), None)
        return "finished" if bad is None else f"failed: {bad.stage} {bad.outcome}"

    def _recipe(self, recipe: str, lock: int) -> StageEnd:
        if self.shared.stop:
            return StageEnd(recipe, "interrupted", None)
        own = self.planned.chain.only([recipe])
        keys = {stage: self.common[stage] for stage in own.stages if stage in self.common}
        culprit = self.shared.claim(self.planned.name, keys.values())
        if culprit is not None:
            return StageEnd(recipe, f"not run: it failed in {culprit} too", None)
        try:
            if self._settled(own, keys):
                return StageEnd(recipe, "ok", 0)
            self.busy = True
            return run_recipe_process(recipe, self.planned.run.overrides, lock, self.environment, self.log)
        finally:
            self.shared.ended(self.run_dir, self.planned.name, keys)

    def _settled(self, own: Graph, keys: dict[str, str]) -> bool:
        """Reuse what other runs have; whether nothing is left to do of these stages."""
        self.run_dir.also_reuse(self.shared.done[key] for key in keys.values() if key in self.shared.done)
        try:
            steps = plan_chain(own, self.run_dir, carry_out=True)
        except UserError:
            return False  # the recipe reports it
        self.run_dir.hasher().save()
        for step in steps:
            if step.action == "reuse":
                print(one_line(f"  [{self.planned.name}, {step.stage.name}] reused {step.why[1]}"), flush=True)
        return all(
            step.settled or (step.stage.found is not None and step.finished and not self.busy) for step in steps
        )


def _side_by_side(plan: StudyPlan, jobs: int) -> tuple[int, list[str]]:
    """How many runs go on at a time, and why not as many as asked for."""
    notes = []
    devices = _devices()
    if devices and jobs > len(devices):
        notes.append(f"note: {len(devices)} runs at a time, one per CUDA device, not {jobs}")
        jobs = len(devices)
    costs = (p.training.memory_bytes for p in plan.chosen if p.training and p.cfg.train.backend == "local")
    need = max(filter(None, costs), default=None)
    there = _memory_available()
    if jobs > 1 and need and there and not devices and need * jobs > there:
        fits = max(1, int(there // need))
        notes.append(f"note: {fits} runs at a time, not {jobs}: one takes {need / 2**30:.1f} GiB of {there / 2**30:.1f}")
        jobs = fits
    return jobs, notes


def _memory_available() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return float(found[0]) * 1024 if found else None


def _devices() -> list[str]:
    """The CUDA devices that runs may take, by CUDA_VISIBLE_DEVICES or nvidia-smi."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [device for device in chosen.split(",") if device.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split() if done.returncode == 0 else []


def _environment(jobs: int, device: str | None) -> dict[str, str]:
    """What the recipes of one run get: their device, and their share of the cores."""
    found = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
    if jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        found["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // jobs))
    return found
