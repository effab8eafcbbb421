"""nemo-cot status: how far each stage of a run is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nemo_cot.errors import UserError, one_line
from nemo_cot.progress import read_progress
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import holder
from nemo_cot.stages.manifest import read_manifest
from nemo_cot.stages.rundir import PARTIAL, changed
from recipes.chain import chain_stages
from recipes.config import load_config
from recipes.main import run_directory


def print_status(overrides: Sequence[str]) -> int:
    """Print a table of the run that ``overrides`` name. Raises UserError when there is none."""
    cfg = load_config(overrides)
    run = run_directory(cfg)
    if not run.path.is_dir():
        raise UserError(
            "no such run",
            where=str(run.path),
            fix="give the overrides that it was started with (name=, runs_dir=)",
        )
    held = holder(run.path)
    table = Table("stage", "state", "progress", "seconds", "finished", title=escape(one_line(str(run.path))))
    for stage in _stage_names(chain_stages(cfg), cfg.evaluate.subjects):
        table.add_row(stage, *map(escape, _row(run, stage, running=held is not None)))
    console = Console()
    console.print(table)
    console.print(
        f"in use by process {held.pid} on {held.host} since {held.since}" if held else "nothing is running",
        markup=False,
    )
    return 0


def _stage_names(stages: Sequence[str], subjects: Sequence[str]) -> list[str]:
    names = []
    for stage in stages:
        names += [f"evaluate/{s}" for s in (*subjects, "scores")] if stage == "evaluate" else [stage]
    return names


def _row(run: RunDirectory, stage: str, *, running: bool) -> tuple[str, str, str, str]:
    """State, progress, seconds, time of end. Only the stage touched last can be the running one."""
    partials, manifest = run.partials(stage), read_manifest(run.stage(stage))
    if partials and (running or manifest is None):
        progress = read_progress(partials[-1])
        shown = (
            f"{progress.done}/{progress.total} {progress.unit}  {progress.figures}".strip()
            if progress
            else ""
        )
        return "running" if running and partials[-1] == _newest(run) else "partial", shown, "", ""
    if manifest is None:
        return "not run", "", "", ""
    rows = [f"{name} {o.rows} rows" for name, o in manifest.outputs.items() if o.rows is not None]
    return "done", ", ".join(rows), f"{manifest.wall_seconds:.1f}", manifest.finished_at


def _newest(run: RunDirectory) -> Path | None:
    """The partial folder that was changed last, of any stage."""
    found = [*run.path.glob(f"*{PARTIAL}*"), *run.path.glob(f"*/*{PARTIAL}*")]
    return max(found, key=changed, default=None)
