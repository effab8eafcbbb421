"""Preflight of a run: what its config costs, and what is wrong with it. Writes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.errors import UserError, one_line
from nemo_cot.evaluation.sets import HeldOut
from nemo_cot.experiment.graph import Graph
from nemo_cot.experiment.rundirs import reused_runs
from nemo_cot.io.paths import num_bytes_below, user_path
from nemo_cot.preflight import Finding, preflight
from nemo_cot.preflight.estimate import Estimate, estimate
from nemo_cot.preflight.sampling_cost import num_heldout_of, num_problems
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import CHAIN_JOB, INHERITED


def examine(
    cfg: Config, run: RunDirectory, chain: Graph, *, stage: str | None = None, elsewhere: bool = False
) -> tuple[Estimate, list[Finding]]:
    """What ``cfg`` with its ``chain`` costs and what preflight finds about it; ``stage`` and ``elsewhere`` as there."""
    model = _model_directory(cfg, run)
    cost = estimate(cfg, model, num_heldout_of(HeldOut("", cfg), run), num_train=num_problems(cfg), run=run)
    there = num_bytes_below(run.path)
    findings = preflight(cfg, cost, chain.kinds, num_bytes_there=there, stage=stage, elsewhere=elsewhere)
    return cost, [*findings, *_reuse_findings(cfg, run, stage)]


def _reuse_findings(cfg: Config, run: RunDirectory, stage: str | None) -> Iterator[Finding]:
    """Findings about `reuse`. Errors only for a new run: one that has reused its stages no longer needs the other."""
    level = "error" if stage is None and not run.path.is_dir() else "warning"
    if all(directory.is_dir() for directory in reused_runs(cfg).values()):
        what = "Every run in reuse exists." if cfg.reuse else "does not apply: reuse is empty"
        yield Finding("reused_runs_exist", "ok", what)
    for entry, directory in reused_runs(cfg).items():
        if not directory.is_dir():
            what = f"reuse={entry}: there is no run directory {directory}"
            fix = "name runs in runs_dir, or their directories, as in reuse=[paper_main]; or leave it out"
            yield Finding("reused_runs_exist", level, what, fix)


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Raise UserError for the first error among ``findings``; without one, print one line per warning.

    A stage started by a chain prints none: the chain has printed them.
    """
    for finding in findings:
        if finding.level == "error":
            raise UserError(finding.what, where=f"preflight, {finding.rule}", fix=finding.fix)
    if {CHAIN_JOB, INHERITED}.isdisjoint(os.environ):
        for finding in findings:
            if finding.level == "warning":
                line = f"warning: preflight, {finding.rule}: {finding.what}. Fix: {finding.fix}"
                print(one_line(line), file=sys.stderr, flush=True)


def _model_directory(cfg: Config, run: RunDirectory) -> Path | None:
    if cfg.model.source == "directory":
        return user_path(cfg.model.path or "")
    folder = run.stage("convert") / "model"
    return folder if folder.is_dir() else None
