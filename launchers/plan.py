"""nemo-cot plan: what would run and why, its cost, and its errors. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nemo_cot.config import Config
from nemo_cot.config.rule import GIB, KNOWN_LATER
from nemo_cot.errors import EXIT_CODE, one_line
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.examine import examine
from nemo_cot.experiment.graph import graph
from nemo_cot.experiment.planner import plan_chain
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.preflight import Finding
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.preflight.sampling_cost import SamplingCost
from nemo_cot.stages import RunDirectory

_STYLES = {"error": "red", "warning": "yellow", "unknown": "cyan", "ok": "green"}


def print_plan(overrides: Sequence[str]) -> int:
    """Print the plan. Returns 2 if a rule finds an error, else 0."""
    cfg = load_config(overrides)
    run = run_directory(cfg)
    cost, findings = examine(cfg, run, elsewhere=cfg.cluster.slurm is not None)
    console = Console()
    console.print(_stage_table(cfg, run))
    console.print(_cost_table(cfg, cost))
    console.print(_finding_table(findings))
    return EXIT_CODE if any(f.level == "error" for f in findings) else 0


def _stage_table(cfg: Config, run: RunDirectory) -> Table:
    table = Table("stage", "action", "why", title=escape(one_line(f"plan of {run.path}")))
    for step in plan_chain(graph(cfg), run):
        table.add_row(*(escape(one_line(cell)) for cell in (step.stage.name, *step.why)))
    return table


def _cost_table(cfg: Config, cost: Estimate) -> Table:
    table = Table("estimate", "", title="cost")
    for name, value in _costs(cfg, cost):
        table.add_row(name, value)
    return table


def _costs(cfg: Config, cost: Estimate) -> Iterator[tuple[str, str]]:
    yield "parameters", f"{cost.model.parameters / 1e6:,.1f} M" if cost.model.parameters else KNOWN_LATER
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
    yield "training, per step", f"about {cost.tokens_per_step:,} tokens in {cost.packs_per_step} packs"
    own = cost.training
    yield f"training, operations ({own.formula})", f"{own.operations:.2e}" if own.operations else KNOWN_LATER
    yield f"training, memory of {own.place}", _size(own.memory_bytes)
    if own.gpu_hours is not None:
        yield f"training, at {own.at}", f"{own.gpu_hours:.1f} GPU-hours"
    yield "disk", _size(own.disk_bytes)


def _size(num_bytes: float | None) -> str:
    return KNOWN_LATER if num_bytes is None else f"{num_bytes / GIB:,.1f} GiB"


def _finding_table(findings: Sequence[Finding]) -> Table:
    table = Table("rule", "", "finding", title="preflight")
    for finding in findings:
        text = f"{finding.what.rstrip('.')}. Fix: {finding.fix}" if finding.fix else finding.what
        table.add_row(finding.rule, f"[{_STYLES[finding.level]}]{finding.level}[/]", escape(one_line(text)))
    return table
