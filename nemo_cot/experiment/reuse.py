"""What a chain will do before it does it: stages adopted from other runs, finished ones replaced."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from nemo_cot.config import Config
from nemo_cot.errors import UserError, one_line
from nemo_cot.io.paths import user_path
from nemo_cot.preflight import Finding
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.stages.engine import SETTLED, Plan, adopt_stage, foresee, may_be_finished
from nemo_cot.stages.manifest import MANIFEST
from nemo_cot.experiment.graph import chain_stages, needs


def reused_runs(cfg: Config) -> dict[str, Path]:
    """The directories that `reuse` names, by its entries; they need not exist."""
    return {entry: _directory(entry, cfg) for entry in cfg.reuse}


def _directory(entry: str, cfg: Config) -> Path:
    """A plain name is a run beside this one, anything else a path."""
    plain = "/" not in entry and not entry.startswith(("~", "."))
    directory = user_path(cfg.runs_dir) / entry if plain else user_path(entry)
    return Path(os.path.realpath(directory))  # Path.resolve raises RuntimeError for some links


def reuse_findings(cfg: Config, run: RunDirectory, stage: str | None) -> Iterator[Finding]:
    """What preflight says of `reuse`. An error only where a run is begun: what was adopted needs the other no more."""
    level = "error" if stage is None and not run.path.is_dir() else "warning"
    if all(directory.is_dir() for directory in reused_runs(cfg).values()):
        what = "Every run to adopt stages from is there." if cfg.reuse else "does not apply: reuse is empty"
        yield Finding("reused_runs_exist", "ok", what)
    for entry, directory in reused_runs(cfg).items():
        if not directory.is_dir():
            what = f"reuse={entry}: there is no run directory {directory}"
            fix = "name runs in runs_dir, or their directories, as in reuse=[paper_main]; or leave it out"
            yield Finding("reused_runs_exist", level, what, fix)


def adopt_chain(cfg: Config, run: RunDirectory, *, dry_run: bool) -> None:
    """Adopt every stage of the chain that can be now, before jobs are made for the rest, and say so.

    With ``dry_run`` they are only borrowed: ``run`` then reads them where they are, and nothing is written.
    """
    if not run.reuse:
        return
    verb = "would be adopted" if dry_run else "adopted"
    for name, plan in _walk(cfg, run, foresee if dry_run else adopt_stage):
        if plan is not None and plan.action == "adopt":
            print(one_line(f"[{name}] {verb} {'; '.join(plan.reasons)}"), flush=True)
    if not dry_run:
        run.hasher().save()


def say_replaced(cfg: Config, run: RunDirectory) -> None:
    """One line, if finished stages of ``run`` will be replaced: which, why, and how to keep them.

    ``run`` should be one for this alone: what is to be adopted is borrowed.
    """
    changed, behind = [], []
    for name, plan in _walk(cfg, run, foresee):
        if "/chunk-" in name or not (run.path / name / MANIFEST).exists():
            continue
        if plan is None:
            behind.append(name)
        elif plan.replaces:
            changed.append(f"{name} ({'; '.join(plan.reasons)})")
    if changed:
        then = f"; and, unless their inputs come out the same, {', '.join(behind)}" if behind else ""
        line = f"finished stages will be replaced: {', '.join(changed)}{then}."
        print(one_line(f"{line} To keep them: name=OTHER reuse=[{run.path.name}]"), flush=True)


class Piece(NamedTuple):
    """A part of a recipe that waits for ``needs`` as a whole, and writes the stages ``names`` (and chunks)."""

    recipe: str
    cfg: Config
    needs: tuple[str, ...]
    names: tuple[str, ...]


_Look = Callable[[Stage, RunDirectory], Plan]


def _walk(cfg: Config, run: RunDirectory, look: _Look) -> Iterator[tuple[str, Plan | None]]:
    """(stage, what ``look`` says of it) along the chain; None where a stage before it is not settled."""
    unsettled: set[str] = set()
    for piece in pieces(cfg):
        if not unsettled.isdisjoint(piece.needs):
            unsettled.add(piece.recipe)
            yield from ((name, None) for name in piece.names)
            continue
        seen = set()
        for name, plan in _looked_at(piece, run, look):
            seen.add(name)
            yield name, plan
            if plan.action not in SETTLED:
                unsettled.add(piece.recipe)
        if left := [name for name in piece.names if name not in seen]:
            unsettled.add(piece.recipe)
            yield from ((name, None) for name in left)


def pieces(cfg: Config) -> Iterator[Piece]:
    """The recipes of the chain but the report; the evaluation by subject, since not all wait for the training."""
    for recipe in chain_stages(cfg):
        if recipe == "evaluate":
            for subject in cfg.evaluate.subjects:
                one = replace(cfg, evaluate=replace(cfg.evaluate, subjects=[subject]))
                yield Piece(recipe, one, needs(recipe, one), (f"evaluate/{subject}",))
            yield Piece(recipe, cfg, (*needs(recipe, cfg), recipe), ("evaluate/scores",))
        elif recipe != "report":
            yield Piece(recipe, cfg, needs(recipe, cfg), (recipe,))


def _looked_at(piece: Piece, run: RunDirectory, look: _Look) -> Iterator[tuple[str, Plan]]:
    """What is missing, or cannot be read, ends it: the stage itself will say so."""
    recipe = getattr(importlib.import_module(f"nemo_cot.recipes.{piece.recipe}"), piece.recipe)
    try:
        for stage in recipe(piece.cfg, run):
            if stage.name.partition("/chunk-")[0] in piece.names:
                there = may_be_finished(stage, run)
                yield stage.name, look(stage, run) if there else Plan("run", [])
    except (UserError, FileNotFoundError):
        return
