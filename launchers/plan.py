"""nemo-cot plan: what would run and why, what it costs, and what is wrong with it. Writes nothing."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nemo_cot.config import Config
from nemo_cot.config.cluster import SlurmCluster
from nemo_cot.errors import EXIT_CODE, UserError, one_line
from nemo_cot.io.hashing import Hasher
from nemo_cot.training.nemo.config import NemoTrain
from nemo_cot.preflight import Finding
from nemo_cot.preflight.estimate import UTILISATION, Estimate
from nemo_cot.preflight.rules import GIB, KNOWN_LATER
from nemo_cot.preflight.sampling_cost import SamplingCost
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.stages.engine import SETTLED, Plan, may_be_finished, plan_stage
from nemo_cot.stages.manifest import MANIFEST, describe
from nemo_cot.experiment.graph import chain_stages
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.recipe import run_directory
from nemo_cot.experiment.examine import examine
from nemo_cot.experiment.reuse import Piece, pieces

_STYLES = {"error": "red", "warning": "yellow", "unknown": "cyan", "ok": "green"}
_MOMENT_SECONDS = 2.0


def print_plan(overrides: Sequence[str]) -> int:
    """Print the plan. Returns 2 when a rule finds an error, else 0."""
    cfg = load_config(overrides)
    run = run_directory(cfg)
    cost, findings = examine(cfg, run, elsewhere=isinstance(cfg.cluster, SlurmCluster))
    console = Console()
    console.print(_stage_table(cfg, run))
    console.print(_cost_table(cfg, cost))
    console.print(_finding_table(findings))
    return EXIT_CODE if any(f.level == "error" for f in findings) else 0


def stage_actions(cfg: Config, run: RunDirectory) -> list[tuple[str, str, str]]:
    """(stage, action, why) along the chain; below a recipe that runs, whether one runs again is open."""
    rows: list[tuple[str, str, str]] = []
    unsettled: set[str] = set()
    hasher = run.hasher()
    for piece in pieces(cfg):
        waiting = ", ".join(need for need in piece.needs if need in unsettled)
        planned = (
            [_behind(name, waiting, run) for name in piece.names] if waiting else _planned(piece, run, hasher)
        )
        rows += planned
        if any(action.partition(" ")[0] not in SETTLED for _, action, _ in planned):
            unsettled.add(piece.recipe)
    if "report" in chain_stages(cfg):
        # It reads whatever there is, so it needs nothing, and changes with everything.
        report = Piece("report", cfg, (), ("report",))
        rows += (
            [("report", "run", "after the stages that run")] if unsettled else _planned(report, run, hasher)
        )
    return rows


def _behind(name: str, waiting: str, run: RunDirectory) -> tuple[str, str, str]:
    """The row of a stage behind one that is not settled."""
    if (run.stage(name) / MANIFEST).exists():
        return name, "open", f"runs unless {waiting} gives the same again"
    return name, "run", f"after {waiting}"


def _planned(piece: Piece, run: RunDirectory, hasher: Hasher) -> list[tuple[str, str, str]]:
    name = piece.names[0]
    recipe = getattr(importlib.import_module(f"nemo_cot.recipes.{piece.recipe}"), piece.recipe)
    rows = []
    try:
        for stage in recipe(piece.cfg, run):
            if stage.name.partition("/chunk-")[0] not in piece.names:
                continue
            plan = _plan_of(stage, run, hasher)
            action = f"adopt {plan.other.path.name}" if plan.other else plan.action
            rows.append((stage.name, action, "; ".join(plan.reasons) or "has not been run"))
    except FileNotFoundError as error:
        rows.append((name, "run", f"not ready: {error.filename} is not there"))
    except UserError as error:
        rows.append((name, "run", f"not ready: {error}"))
    return rows


def _plan_of(stage: Stage, run: RunDirectory, hasher: Hasher) -> Plan:
    """What :func:`run_stage` would do. Inputs are read only where an earlier result may hold."""
    for path in stage.inputs.values():
        os.stat(path)
    if not may_be_finished(stage, run) and not run.partials(stage.name):
        return Plan("run", [])  # before any input is hashed: it may be a model of 60 GB
    with _told_when_long(f"  plan: hashes the inputs of {stage.name}, to compare them with the last run's"):
        inputs = {label: describe(path, run.path, hasher) for label, path in stage.inputs.items()}
        plan = plan_stage(stage, run, inputs, hasher)
    if plan.other is not None:
        run.borrow(stage.name, plan.other)  # so that the stages behind it can be planned, too
    return plan


@contextmanager
def _told_when_long(line: str) -> Iterator[None]:
    """Print ``line`` when the body takes longer than a moment."""
    timer = threading.Timer(_MOMENT_SECONDS, print, (line,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _stage_table(cfg: Config, run: RunDirectory) -> Table:
    table = Table("stage", "action", "why", title=escape(one_line(f"plan of {run.path}")))
    for row in stage_actions(cfg, run):
        table.add_row(*(escape(one_line(cell)) for cell in row))
    return table


def _cost_table(cfg: Config, cost: Estimate) -> Table:
    table = Table("estimate", "", title="cost")
    for name, value in _costs(cfg, cost):
        table.add_row(name, value)
    return table


def _costs(cfg: Config, cost: Estimate) -> Iterator[tuple[str, str]]:
    yield "parameters", f"{cost.parameters / 1e6:,.1f} M" if cost.parameters else KNOWN_LATER
    yield from (_sampling_cost(sampled) for sampled in cost.sampling if sampled.stage == "generate")
    if "train" in cfg.launcher.stages:
        yield from _training_costs(cfg, cost)
    yield from (_sampling_cost(sampled) for sampled in cost.sampling if sampled.stage == "evaluate")


def _sampling_cost(sampled: SamplingCost) -> tuple[str, str]:
    name = f"{sampled.stage} {sampled.label}, at most"
    if sampled.tokens_at_most is None:
        return name, "known after problems"
    tokens = f"{sampled.tokens_at_most:,} tokens in {sampled.answers:,} answers"
    if sampled.gpu_hours_at_least is None:
        return name, f"{tokens}; {sampled.reason}"
    bound = f"{sampled.gpu_hours_at_least:,.1f} GPU-hours or more (memory bandwidth of H100)"
    return name, f"{tokens}; so many take {bound}"


def _training_costs(cfg: Config, cost: Estimate) -> Iterator[tuple[str, str]]:
    yield "training, a step", f"about {cost.tokens_per_step:,} tokens in {cost.packs_per_step} packs"
    lora = isinstance(cfg.train, NemoTrain) and cfg.train.lora.enabled
    formula = "(4 x parameters + 6 x adapters) x tokens" if lora else "6 x parameters x tokens"
    yield f"training, operations ({formula})", f"{cost.train_flops:.2e}" if cost.train_flops else KNOWN_LATER
    if cost.gpu_bytes is not None:
        yield "training, memory of the fullest GPU", f"{cost.gpu_bytes / GIB:.1f} GiB"
    else:
        yield "training, memory", f"{cost.train_bytes / GIB:.1f} GiB" if cost.train_bytes else KNOWN_LATER
    if cost.gpu_hours is not None:
        yield f"training, at {UTILISATION:.0%} of an H100's peak", f"{cost.gpu_hours:.1f} GPU-hours"
    yield "disk", f"{cost.disk_bytes / GIB:,.1f} GiB" if cost.disk_bytes else KNOWN_LATER


def _finding_table(findings: Sequence[Finding]) -> Table:
    table = Table("rule", "", "finding", title="preflight")
    for finding in findings:
        told = f"{finding.what.rstrip('.')}. Fix: {finding.fix}" if finding.fix else finding.what
        table.add_row(finding.rule, f"[{_STYLES[finding.level]}]{finding.level}[/]", escape(one_line(told)))
    return table
