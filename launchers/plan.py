"""nemo-cot plan: what would run and why, what it costs, and what is wrong with it. Writes nothing."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nemo_cot.config import Config
from nemo_cot.config_cluster import SlurmCluster
from nemo_cot.errors import EXIT_CODE, UserError, one_line
from nemo_cot.preflight import Finding
from nemo_cot.preflight.estimate import UTILISATION, Estimate
from nemo_cot.preflight.rules import GIB
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.engine import SETTLED, foresee
from recipes.chain import chain_stages, needs
from recipes.config import load_config
from recipes.main import run_directory
from recipes.preflight import examine

_LATER = "known after convert"
_STYLES = {"error": "red", "warning": "yellow", "ok": "green"}


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
    """(stage, action, why) along the chain; below a recipe that runs, whether one runs is open."""
    rows: list[tuple[str, str, str]] = []
    unsettled: set[str] = set()
    for name in chain_stages(cfg):
        waiting = [need for need in needs(name, cfg) if need in unsettled]
        if waiting:
            rows.append((name, "open", f"runs unless {', '.join(waiting)} gives the same again"))
            unsettled.add(name)
            continue
        planned = _planned(name, cfg, run)
        rows += planned
        if any(action.partition(" ")[0] not in SETTLED for _, action, _ in planned):
            unsettled.add(name)
    return rows


def _planned(name: str, cfg: Config, run: RunDirectory) -> list[tuple[str, str, str]]:
    recipe = getattr(importlib.import_module(f"recipes.{name}"), name)
    rows = []
    try:
        for stage in recipe(cfg, run):
            plan = foresee(stage, run)
            action = f"adopt {plan.other.path.name}" if plan.other else plan.action
            rows.append((stage.name, action, "; ".join(plan.reasons) or "has not been run"))
    except (UserError, FileNotFoundError) as error:
        rows.append((name, "run", f"not ready: {error}"))
    return rows


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
    yield "parameters", f"{cost.parameters / 1e6:,.1f} M" if cost.parameters else _LATER
    if "train" in cfg.launcher.stages:
        yield from _training_costs(cost)
    tokens = cost.sampled_tokens_at_most
    yield "evaluation, at most", "known after problems" if tokens is None else f"{tokens:,} tokens"


def _training_costs(cost: Estimate) -> Iterator[tuple[str, str]]:
    yield "training, a step", f"about {cost.tokens_per_step:,} tokens in {cost.packs_per_step} packs"
    flops = f"{cost.train_flops:.2e}" if cost.train_flops else _LATER
    yield "training, operations (6 x parameters x tokens)", flops
    if cost.gpu_bytes is not None:
        yield "training, memory of the fullest GPU", f"{cost.gpu_bytes / GIB:.1f} GiB"
    else:
        yield "training, memory", f"{cost.train_bytes / GIB:.1f} GiB" if cost.train_bytes else _LATER
    if cost.gpu_hours is not None:
        yield f"training, at {UTILISATION:.0%} of an H100's peak", f"{cost.gpu_hours:.1f} GPU-hours"
    yield "disk", f"{cost.disk_bytes / GIB:,.1f} GiB" if cost.disk_bytes else _LATER


def _finding_table(findings: Sequence[Finding]) -> Table:
    table = Table("rule", "", "finding", title="preflight")
    for finding in findings:
        fix = f" Fix: {finding.fix}" if finding.fix else ""
        table.add_row(
            finding.rule, f"[{_STYLES[finding.level]}]{finding.level}[/]", escape(finding.what + fix)
        )
    return table
