"""nemo-cot status: how far each stage of a run is."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nemo_cot.errors import UserError, one_line
from nemo_cot.progress import read_progress
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import holder
from nemo_cot.stages.manifest import read_manifest
from recipes.config import load_config
from recipes.main import run_directory


def print_status(overrides: Sequence[str]) -> int:
    """Print a table of the run that ``overrides`` name. Raises UserError when there is none."""
    cfg = load_config(overrides)
    run = run_directory(cfg)
    if not run.path.is_dir():
        raise UserError("no such run", where=str(run.path), fix="give the overrides that it was started with (name=, runs_dir=)")
    held = holder(run.path)
    table = Table("stage", "state", "progress", "seconds", "finished", title=escape(one_line(str(run.path))))
    for stage in _stage_names(cfg.launcher.stages, cfg.evaluate.subjects):
        table.add_row(stage, *map(escape, _row(run, stage, running=held is not None)))
    console = Console()
    console.print(table)
    console.print(f"in use by process {held.pid} on {held.host} since {held.since}" if held else "nothing is running", markup=False)
    return 0


def _stage_names(stages: Sequence[str], subjects: Sequence[str]) -> list[str]:
    names = []
    for stage in stages:
        names += [f"evaluate/{s}" for s in (*subjects, "scores")] if stage == "evaluate" else [stage]
    return names


def _row(run: RunDirectory, stage: str, *, running: bool) -> tuple[str, str, str, str]:
    partials = run.partials(stage)
    if partials:
        progress = read_progress(partials[-1])
        state = "running" if running and progress and time.time() - progress.updated < 300 else "partial"
        if progress is None:
            return state, "", "", ""
        return state, f"{progress.done}/{progress.total} {progress.unit}  {progress.figures}".strip(), "", ""
    manifest = read_manifest(run.stage(stage))
    if manifest is None:
        return "not run", "", "", ""
    rows = [f"{name} {o.rows} rows" for name, o in manifest.outputs.items() if o.rows is not None]
    return "done", ", ".join(rows), f"{manifest.wall_seconds:.1f}", manifest.finished_at
