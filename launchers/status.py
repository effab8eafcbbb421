"""nemo-cot status: the progress of each stage of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from nemo_cot.config import Config
from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.existing import find_run
from nemo_cot.experiment.graph import whole_graph
from nemo_cot.launchers.finished import as_overrides, split_arguments
from nemo_cot.launchers.slurm.status import submitted_tables
from nemo_cot.progress import shown_progress
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import in_use_by, stage_holders
from nemo_cot.stages.manifest import read_manifest

WATCH = "--watch"
_EVERY_SECONDS = 5.0


def print_status(arguments: Sequence[str]) -> int:
    """``[RUN] [--watch] [overrides]``: print a table of the run (:func:`find_run`), and of its submitted jobs.

    With --watch repeatedly, until none of it is queued or running. Raises UserError if there is no
    such run.
    """
    verb = "nemo-cot status"
    given = split_arguments([a for a in arguments if a != WATCH], verb, options=())
    cfg, run = find_run(as_overrides(given, verb))
    console = Console()
    while True:
        shown, live = _tables(cfg, run)
        if console.is_terminal and WATCH in arguments:
            console.clear()
        console.print(shown)
        if WATCH not in arguments or not live:
            return 0
        time.sleep(_EVERY_SECONDS)


def _tables(cfg: Config, run: RunDirectory) -> tuple[Group, bool]:
    """What to print, and whether something is running or queued."""
    who, held = in_use_by(run.path), stage_holders(run.path)
    table = Table("stage", "state", "progress", "seconds", "finished", title=escape(one_line(str(run.path))))
    for stage in _stage_names(cfg, run):
        table.add_row(stage, *map(escape, _row(run, stage, running=stage in held)))
    use = f"in use by {who}" if who else "nothing is running"
    chain, live = submitted_tables(run)
    return Group(table, escape(use), *chain), live or bool(who)


def _stage_names(cfg: Config, run: RunDirectory) -> list[str]:
    """The stages of the chain, and others that exist: the last command may have named fewer."""
    stages, chosen = whole_graph(cfg).stages, cfg.launcher.stages
    return [n for n, s in stages.items() if s.recipe in chosen or run.stage(n).exists() or run.partials(n)]


def _row(run: RunDirectory, stage: str, *, running: bool) -> tuple[str, str, str, str]:
    """State, progress, seconds, end time."""
    partials = run.partials(stage)
    try:
        manifest = read_manifest(run.stage(stage))
    except UserError as error:
        return "damaged", str(error), "", ""
    if running or (partials and manifest is None):
        return "running" if running else "partial", shown_progress(partials[-1:]), "", ""
    if manifest is None:
        return "not run", "", "", ""
    rows = [f"{name} {o.rows} rows" for name, o in manifest.outputs.items() if o.rows is not None]
    return "done", ", ".join(rows), f"{manifest.wall_seconds:.1f}", manifest.finished_at
