"""Time and memory of grading the 30 hostile pairs: each by itself, and all in one batch.

Usage: python benchmarks/hostile_answers.py [--repeats N]
With gmpy2, where it lies apart: PYTHONPATH=.venv/gmpy2 python benchmarks/hostile_answers.py

The pairs are those of tests/grading/hostile.py. Each batch is a fresh process that starts two workers;
its memory is the largest sum over the process and all below it, looked at every 5 ms: pages that forked
processes share count once (Pss of /proc, so Linux only).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
DEADLINE_SECONDS, WORKERS = 2.0, 2
_LOOK_EVERY_SECONDS = 0.005


def main() -> None:
    """Print the longest single pair, and the batch's time and memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.batch:
        grade_batch()
        return
    print(describe_machine() + f", gmpy2 {gmpy2_version()}")
    longest, name = max(each_alone())
    print(f"each pair by itself, deadline {DEADLINE_SECONDS:.0f} s: {longest:.2f} s at most ({name})")
    batches = [measured_batch() for _ in range(arguments.repeats)]
    seconds, mebibytes = zip(*batches)
    print(
        f"all in one batch, {WORKERS} workers: {statistics.median(seconds):.1f} s"
        f" ({min(seconds):.1f} to {max(seconds):.1f}; median of {len(batches)}), {max(mebibytes):.0f} MiB at most"
    )


def gmpy2_version() -> str:
    """Of the gmpy2 that SymPy computes with; "none" where it uses Python's integers."""
    import sympy.external.gmpy

    if sympy.external.gmpy.GROUND_TYPES != "gmpy":
        return "none"
    import gmpy2

    return gmpy2.version()


def each_alone() -> list[tuple[float, str]]:
    """Seconds and name of every pair; the first start of a worker is not counted."""
    from nemo_cot.grading import grade_many
    from tests.grading.hostile import HOSTILE

    grade_many(
        [("1", rf"\int_0^1 {n} x dx") for n in range(40)], workers=1, deadline_seconds=DEADLINE_SECONDS
    )
    found = []
    for name, gold, answer in HOSTILE:
        started = time.monotonic()
        grade_many([(gold, answer)], workers=1, deadline_seconds=DEADLINE_SECONDS)
        found.append((time.monotonic() - started, name))
    return found


def grade_batch() -> None:
    """What a measured process does."""
    from nemo_cot.grading import grade_many
    from tests.grading.hostile import HOSTILE

    verdicts = grade_many(
        [(gold, answer) for _, gold, answer in HOSTILE], workers=WORKERS, deadline_seconds=DEADLINE_SECONDS
    )
    assert len(verdicts) == len(HOSTILE) == 30


def measured_batch() -> tuple[float, float]:
    """Seconds and MiB of a batch in a fresh process."""
    started, peak = time.monotonic(), 0.0
    process = subprocess.Popen([sys.executable, __file__, "--batch"])
    while process.poll() is None:
        peak = max(peak, sum(map(_pss_mebibytes, _with_descendants(process.pid))))
        time.sleep(_LOOK_EVERY_SECONDS)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.monotonic() - started, peak


def _with_descendants(pid: int) -> list[int]:
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(one for child in children for one in _with_descendants(child))]


def _pss_mebibytes(pid: int) -> float:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = [line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")]
    return int(found[0]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()
