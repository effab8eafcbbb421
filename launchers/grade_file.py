"""nemo-cot grade: grade a JSON-lines file of any project that names its keys as NeMo-Skills does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nemo_cot.errors import UserError, one_line
from nemo_cot.progress import track
from recipes.config import load_config


def grade_command(arguments: Sequence[str]) -> int:
    """``INPUT OUTPUT [overrides of grade.*]``. Prints the counts, and where the two graders differ."""
    overrides = [a for a in arguments if a.startswith("grade.")]
    paths = [a for a in arguments if a not in overrides]
    if len(paths) != 2:
        raise UserError(
            f"{len(paths)} files given, not 2",
            where="nemo-cot grade",
            fix="nemo-cot grade INPUT.jsonl OUTPUT.jsonl",
        )
    config = load_config(overrides).grade
    from nemo_cot.grading.files import grade_file

    source, target = map(Path, paths)
    if target.is_dir():
        raise UserError("is a directory, not a file", where=str(target), fix="name a file for OUTPUT")
    if not target.parent.is_dir():
        raise UserError(
            "no such directory", where=str(target.parent), fix="make it, or choose another OUTPUT"
        )
    with track("grade", 0, "answers") as progress:
        summary = grade_file(
            source,
            target,
            fallback=config.fallback,
            workers=config.workers,
            deadline_seconds=config.deadline_seconds,
            cache=None,
            nemo_skills=True,
            progress=lambda done, total: progress.update(done, total=total),
        )
    print(
        f"{summary.rows} rows: "
        + ", ".join(f"{outcome} {count}" for outcome, count in sorted(summary.outcomes.items()))
    )
    if summary.moved:
        print(
            "verdicts moved: " + ", ".join(f"{a} to {b} {n}" for (a, b), n in sorted(summary.moved.items()))
        )
    for change in summary.moved_examples[:10]:
        print(
            one_line(
                f"  moved, line {change.line}: {change.before} to {change.after}; gold {change.gold!r}, "
                f"answer {change.answer!r} ({change.reason})"
            )
        )
    for change in summary.differing_examples[:10]:
        print(
            f"  graders differ, line {change.line}: gold {change.gold!r}, answer {change.answer!r}, "
            f"NeMo-Skills {change.before}, ours {change.after} ({change.reason})"
        )
    return 0
