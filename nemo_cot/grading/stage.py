"""Grade a file of generations as a stage does: with a verdict cache to resume from, and progress."""

from __future__ import annotations

from pathlib import Path

from nemo_cot.config import GradeConfig
from nemo_cot.grading.cache import TRANSIENT
from nemo_cot.grading.files import GradeSummary, grade_file
from nemo_cot.grading.verdict import RIGHT
from nemo_cot.progress import track


def grade_generations(
    generations: Path, graded: Path, config: GradeConfig, folder: Path | None, *, label: str
) -> GradeSummary:
    """Grade ``generations`` into ``graded``. Verdicts reach the cache in ``folder``/scratch as they
    come, so a killed stage does not grade them again; without a folder nothing is kept.
    """
    with track(label, 0, "answers", folder) as progress:
        summary = grade_file(
            generations,
            graded,
            fallback=config.fallback,
            thoughts=config.thoughts,
            workers=config.workers,
            deadline_seconds=config.deadline_seconds,
            cache=folder / "scratch" / "verdicts" if folder else None,
            nemo_skills=True,
            progress=lambda done, total: progress.update(done, total=total),
        )
    if summary.right_by_decimal:
        print(
            f"  {label}: {summary.right_by_decimal} of {summary.outcomes[RIGHT]} right ones are decimals of an exact answer"
        )
    reasons = sorted(summary.undecided_reasons.items())
    if lost := ", ".join(f"{reason} {n}" for reason, n in reasons if reason in TRANSIENT):
        told = "undecided for lack of time or memory here, not by the answer"
        print(f"  {label}: {told}: {lost} (grade.deadline_seconds)")
    return summary
