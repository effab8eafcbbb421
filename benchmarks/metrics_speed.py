"""How long all metrics with their bootstrap intervals take for 256 problems with 64 samples each.

Usage: python benchmarks/metrics_speed.py [--repeats N]

Each repeat runs in a fresh process: pass@1, pass@8, both maj@64, the rates, an interval of 10,000
resamples for each metric, and a paired difference between two runs for each. Reading rows is included.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def rows(seed: int) -> list[dict]:
    """Graded rows of 256 problems x 64 samples, answers in several spellings."""
    draw = random.Random(seed)
    found = []
    for problem in range(256):
        values = [draw.randint(2, 99) for _ in range(12)]
        for sample in range(64):
            value = values[min(int(draw.expovariate(0.5)), 11)]
            spelling = draw.choice(
                ["{v}", "{v}.0", "\\frac{{{v}}}{{7}}", "{v}\\sqrt{{3}}", "({v}, 1)"]
            ).format(v=value)
            verdict = "right" if value == values[0] else draw.choice(["wrong"] * 30 + ["undecided"])
            found.append(
                {
                    "problem_id": str(problem),
                    "sample": sample,
                    "predicted_answer": spelling,
                    "verdict": verdict,
                }
            )
    return found


def work() -> float:
    """Seconds for everything, the import of the library left out."""
    from nemo_cot.evaluation import metrics as m

    both = rows(1), rows(2)
    start = time.perf_counter()
    first, second = (m.from_rows(r) for r in both)
    for metric in (
        lambda o: m.pass_at_1(o),
        lambda o: m.pass_at_k(o, 8),
        lambda o: m.majority_at_k(o, 64, vote="string"),
        lambda o: m.majority_at_k(o, 64, vote="equivalence"),
    ):
        a, b = metric(first), metric(second)
        m.bootstrap_interval(a, resamples=10_000)
        m.bootstrap_interval(b, resamples=10_000)
        m.paired_difference(a, b, resamples=10_000)
    m.rates(first)
    return time.perf_counter() - start


def main() -> None:
    """Measure in fresh processes and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    code = "import sys; sys.path.insert(0, sys.argv[1]); from metrics_speed import work; print(work())"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    seconds = [
        float(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
        for _ in range(repeats)
    ]
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )
    print(
        f"all metrics, 2 runs of 256 x 64, 10,000 resamples: "
        f"{statistics.median(seconds):.2f} s (median of {repeats})"
    )


if __name__ == "__main__":
    main()
