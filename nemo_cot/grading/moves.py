"""Which verdicts moved between two gradings of the same generations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from nemo_cot.errors import UserError, one_line
from nemo_cot.io.jsonl import iter_jsonl
from nemo_cot.records import Trace

_SHOWN = 10


def verdict_moves(before: Path, after: Path) -> list[tuple[Trace, Trace]]:
    """Pairs of rows, by problem and sample, whose generation is the same and whose verdict is not."""
    old = {(t.problem_id, t.sample): t for t in iter_jsonl(before, Trace)}
    pairs = ((old.get((t.problem_id, t.sample)), t) for t in iter_jsonl(after, Trace))
    return [
        (a, b) for a, b in pairs if a is not None and a.generation == b.generation and a.verdict != b.verdict
    ]


def compare_gradings(old: Path, new: Path) -> None:
    """Print which verdicts moved between the files of two folders, by name."""
    for graded in sorted(new.glob("*.jsonl")):
        say_moves(old / graded.name, graded)


def say_moves(before: Path, after: Path) -> None:
    """Print how many verdicts moved, by kind, with examples; nothing without an earlier grading.

    An earlier grading that cannot be read is only named: damage to it is why the stage runs again.
    """
    if not before.exists():
        return
    try:
        moves = verdict_moves(before, after)
    except UserError as error:
        print(
            one_line(f"  the last grading cannot be read, so no moves are shown: {error.where}: {error.what}")
        )
        return
    kinds = Counter(f"{a.verdict} to {b.verdict}" for a, b in moves)
    print(
        "  verdicts moved since the last grading: "
        + (", ".join(f"{k} {n}" for k, n in sorted(kinds.items())) or "none")
    )
    for a, b in moves[:_SHOWN]:
        print(
            one_line(
                f"    {b.problem_id} sample {b.sample}: {a.verdict} to {b.verdict}; expected {b.expected_answer!r}, "
                f"predicted {b.predicted_answer!r} ({b.verdict_reason})"
            )
        )
