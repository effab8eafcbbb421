"""nemo-cot grade: grade any JSON-lines file with NeMo-Skills' key names."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.compose import load_config

if TYPE_CHECKING:
    from nemo_cot.grading.files import Change, GradeSummary

SHOWN = 10
"""Examples of each kind to print; the output file holds every verdict."""


def grade_command(arguments: Sequence[str]) -> int:
    """``INPUT OUTPUT [overrides of grade.*]``. Prints the counts, and where the two graders differ."""
    overrides = [a for a in arguments if a.startswith("grade.")]
    paths = [a for a in arguments if a not in overrides]
    if len(paths) != 2:
        raise UserError(
            f"{len(paths)} files given, not 2",
            where="nemo-cot grade",
            fix="nemo-cot grade INPUT.jsonl OUTPUT.jsonl [grade.key=value ...]",
        )
    source, target = map(Path, paths)
    _check_source(source)
    _check_target(target, source)
    config = load_config(overrides).grade
    from nemo_cot.grading.stage import grade_generations

    _print_summary(grade_generations(source, target, config, None, label="grade"))
    return 0


def _check_source(source: Path) -> None:
    """Raise UserError for a file that cannot be read; the grader reports a missing one."""
    if not source.is_file():
        return
    try:
        with open(source, "rb") as handle:
            handle.read(1)
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", where=str(source), fix="make it readable"
        ) from None


def _check_target(target: Path, source: Path) -> None:
    """Raise UserError, before grading starts, for a file that cannot be written or is ``source``."""
    if target.is_dir():
        raise UserError("is a directory, not a file", where=str(target), fix="name a file for OUTPUT")
    if target.exists() and not target.is_file():  # it would be replaced, even /dev/null
        raise UserError("is a device or a pipe, not a file", where=str(target), fix="name a file for OUTPUT")
    if not target.parent.is_dir():
        raise UserError(
            "no such directory", where=str(target.parent), fix="make it, or choose another OUTPUT"
        )
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError("is also the input", where=str(target), fix="choose another OUTPUT")
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise UserError(
            f"cannot be written ({error.strerror})", where=str(target), fix="choose another OUTPUT"
        ) from None


def _print_summary(summary: GradeSummary) -> None:
    outcomes = ", ".join(f"{outcome} {count}" for outcome, count in sorted(summary.outcomes.items()))
    print(f"{summary.rows} rows: {outcomes}")
    if summary.undecided_reasons:
        print("undecided: " + ", ".join(f"{reason} {n}" for reason, n in sorted(summary.undecided_reasons.items())))
    if summary.moved:
        moves = ", ".join(f"{a} to {b} {n}" for (a, b), n in sorted(summary.moved.items()))
        print(f"verdicts moved: {moves}")
    for change in summary.moved_examples[:SHOWN]:
        print(_line("moved", change, f"{change.before} to {change.after}"))
    for change in summary.differing_examples[:SHOWN]:
        print(_line("graders differ", change, f"NeMo-Skills {change.before}, ours {change.after}"))


def _line(what: str, change: Change, verdicts: str) -> str:
    return one_line(
        f"  {what}, line {change.line}: {verdicts}; gold {change.gold!r}, answer {change.answer!r} ({change.reason})"
    )
