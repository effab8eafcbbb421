"""Preflight of a run: what its config costs, and what is wrong with it. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nemo_cot.config import ChainSumProblems, Config, FileProblems
from nemo_cot.errors import UserError
from nemo_cot.io.paths import num_bytes_below, user_path
from nemo_cot.preflight import Finding, preflight
from nemo_cot.preflight.estimate import Estimate, estimate
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import count_rows
from recipes.reuse import reuse_findings


def examine(
    cfg: Config, run: RunDirectory, *, stage: str | None = None, elsewhere: bool = False
) -> tuple[Estimate, list[Finding]]:
    """What ``cfg`` costs and what preflight finds about it; ``stage`` and ``elsewhere`` as there."""
    cost = estimate(cfg, _model_directory(cfg, run), _num_heldout(cfg, run))
    there = num_bytes_below(run.path)
    findings = preflight(cfg, cost, num_bytes_there=there, stage=stage, elsewhere=elsewhere)
    return cost, [*findings, *reuse_findings(cfg)]


def refuse_errors(findings: Sequence[Finding]) -> None:
    """Raise UserError for the first error among ``findings``."""
    for finding in findings:
        if finding.level == "error":
            raise UserError(finding.what, where=f"preflight, {finding.rule}", fix=finding.fix)


def _model_directory(cfg: Config, run: RunDirectory) -> Path | None:
    if cfg.model.source == "directory":
        return Path(cfg.model.path or "").expanduser()
    folder = run.stage("convert") / "model"
    return folder if folder.is_dir() else None


def _num_heldout(cfg: Config, run: RunDirectory) -> int | None:
    if isinstance(cfg.problems, ChainSumProblems):
        return cfg.problems.num_heldout
    places = [run.stage("problems") / "heldout.jsonl"]
    if isinstance(cfg.problems, FileProblems):
        places.append(user_path(cfg.problems.heldout_path))
    made = next((place for place in places if place.is_file()), None)
    return count_rows(made) if made else None
