"""nemo-cot status: how far each stage of a run is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from nemo_cot.launchers.slurm.record import read_submission
from nemo_cot.launchers.slurm.status import any_live, chain_states, chain_table
from nemo_cot.chain import STAGES
from nemo_cot.config import Config
from nemo_cot.errors import UserError, one_line
from nemo_cot.progress import shown_progress
from nemo_cot.sampling.chunks import chunk_stage
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import in_use_by, stage_holders
from nemo_cot.stages.manifest import read_manifest
from nemo_cot.experiment.graph import chain_stages
from nemo_cot.experiment.existing import find_run

WATCH = "--watch"
_EVERY_SECONDS = 5.0


def print_status(arguments: Sequence[str]) -> int:
    """Print a table of the run that the overrides name (:func:`find_run`); of a submitted one, also its jobs.

    With --watch again and again, until nothing of it is queued or running. Raises UserError when
    there is no such run.
    """
    cfg, run = find_run([a for a in arguments if a != WATCH])
    cfg = _with_stages_there(cfg, run)
    console = Console()
    while True:
        shown, live = _tables(cfg, run)
        if console.is_terminal and WATCH in arguments:
            console.clear()
        console.print(shown)
        if WATCH not in arguments or not live:
            return 0
        time.sleep(_EVERY_SECONDS)


def _with_stages_there(cfg: Config, run: RunDirectory) -> Config:
    """The chain's last command may have named fewer stages than the run has."""
    chosen = cfg.launcher.stages
    stages = [s for s in STAGES if s in chosen or run.stage(s).exists() or run.partials(s)]
    return replace(cfg, launcher=replace(cfg.launcher, stages=stages))


def _tables(cfg: Config, run: RunDirectory) -> tuple[Group, bool]:
    """What to print, and whether something is running or queued."""
    who, held = in_use_by(run.path), stage_holders(run.path)
    table = Table("stage", "state", "progress", "seconds", "finished", title=escape(one_line(str(run.path))))
    for stage in _stage_names(cfg):
        table.add_row(stage, *map(escape, _row(run, stage, running=stage in held)))
    said = f"in use by {who}" if who else "nothing is running"
    chain, live = _chain(run)
    return Group(table, escape(said), *chain), live or bool(who)


def _chain(run: RunDirectory) -> tuple[list[RenderableType], bool]:
    """The table of submitted jobs. Where Slurm does not answer, its own files have to do."""
    submission = read_submission(run.path)
    if submission is None:
        return [], False
    states, said = {}, []
    try:
        states = chain_states(submission)
    except UserError as error:
        said = [escape(f"Slurm does not answer, so states are those that the jobs told: {error}")]
    return [chain_table(run, submission, states), *said], any_live(states)


def _stage_names(cfg: Config) -> list[str]:
    """Every stage of the chain's recipes, chunks before the stage that merges them."""
    names = []
    for recipe in chain_stages(cfg):
        if recipe == "evaluate":
            sampled = [f"evaluate/{subject}" for subject in cfg.evaluate.subjects]
            names += [*_with_chunks(sampled, cfg.evaluate.chunks), "evaluate/scores"]
        else:
            names += _with_chunks([recipe], cfg.generate.chunks if recipe == "generate" else 1)
    return names


def _with_chunks(stages: Sequence[str], chunks: int) -> list[str]:
    parts = range(chunks) if chunks > 1 else ()
    return [name for stage in stages for name in (*(chunk_stage(stage, c) for c in parts), stage)]


def _row(run: RunDirectory, stage: str, *, running: bool) -> tuple[str, str, str, str]:
    """State, progress, seconds, time of end."""
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
