"""How fast 16,384 answers are graded, against plain math-verify in the same run.

Usage: python benchmarks/grade_speed.py [--workers N] [--repeats N] [--differences]

Rows: 256 golds (Comp-Math-24-25 from ../shared/data where it is present, made up otherwise) with
64 answers each, about 3,600 distinct pairs: spellings of the gold, near misses, other values. Our times
are those of fresh processes, the start of the helper and the import of SymPy included. The serial loops
parse and verify row by row, as evaluation scripts do.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLES, PROBLEMS = 64, 256


def golds() -> list[str]:
    """256 gold answers."""
    path = Path(os.environ.get("NEMO_COT_DATA", ROOT.parent / "shared" / "data")) / "comp-math-24-25.jsonl"
    if path.exists():
        return [str(json.loads(line)["expected_answer"]) for line in path.open()]
    draw = random.Random(1)
    shapes = [
        "{a}",
        "{a}",
        "\\frac{{{a}}}{{{b}}}",
        "{a}\\sqrt{{{b}}}",
        "{a}+{b}\\sqrt{{{c}}}",
        "({a}, {b})",
        "{a}\\pi",
    ]
    return [
        draw.choice(shapes).format(
            a=draw.randint(2, 99), b=draw.choice([7, 11, 13]), c=draw.choice([2, 3, 5])
        )
        for _ in range(PROBLEMS)
    ]


def spellings(gold: str, others: list[str], draw: random.Random) -> list[str]:
    """Fourteen answers as models give them: right ones, near misses, other values."""
    bare = gold.replace("$", "").rstrip(".")
    found = [
        bare,
        bare,
        gold,
        bare.replace("\\frac", "\\dfrac"),
        bare.replace(" ", ""),
        f"x = {bare}",
        f"{bare}.",
    ]
    found += [f"0{bare}" if bare.isdigit() else f"\\left({bare}\\right)", f"{bare}+1", f"2\\cdot {bare}"]
    found += [str(draw.randint(1, 999)), f"\\frac{{{draw.randint(1, 99)}}}{{{draw.randint(2, 99)}}}"]
    found += [f"{draw.randint(2, 9)}\\sqrt{{{draw.choice([2, 3, 5, 7])}}}", draw.choice(others)]
    return found


def rows() -> list[tuple[str, str]]:
    """16,384 pairs (gold, answer), the same in every run."""
    draw, all_golds = random.Random(0), golds()
    pairs = []
    for gold in all_golds:
        answers = spellings(gold, all_golds, draw)
        pairs += [(gold, answer) for answer in answers + draw.choices(answers, k=SAMPLES - len(answers))]
    draw.shuffle(pairs)
    return pairs


def ours(workers: int) -> dict:
    """Seconds and verdicts of one fresh process."""
    code = (
        "import sys, time, json; start = time.perf_counter(); sys.path.insert(0, sys.argv[1]);"
        "from grade_speed import rows; pairs = rows(); start = time.perf_counter();"
        "from nemo_cot.grading import grade_many;"
        "verdicts = grade_many(pairs, workers=int(sys.argv[2]), deadline_seconds=2.0);"
        "seconds = time.perf_counter() - start;"
        "print(json.dumps({'seconds': seconds, 'outcomes': [v.outcome for v in verdicts]}))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(workers)],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def plain_math_verify(gold: str, answer: str) -> bool:
    """parse and verify as in math-verify's own README."""
    from math_verify import parse, verify

    wrapped = [text if "$" in text else f"${text}$" for text in (gold, answer)]
    return verify(parse(wrapped[0]), parse(wrapped[1]))


def serial(rule, pairs: list[tuple[str, str]]) -> tuple[float, list[bool]]:
    """Seconds and verdicts of a loop over all rows, the library warm."""
    rule("1", "2")
    start = time.perf_counter()
    verdicts = [rule(gold, answer) for gold, answer in pairs]
    return time.perf_counter() - start, verdicts


def print_differences(
    pairs: list[tuple[str, str]], outcomes: list[str], verdicts: list[bool], show: int
) -> None:
    """Distinct pairs on which the two graders differ, by (math-verify, ours)."""
    differing = {p: (v, o) for p, o, v in zip(pairs, outcomes, verdicts) if (o == "right") != v}
    counts = Counter(differing.values())
    print("distinct pairs that differ (math-verify says right, ours):", dict(counts))
    for pair, kinds in sorted(differing.items(), key=lambda item: str(item[1]))[:show]:
        print("  ", kinds, *pair, sep=" | ")


def main() -> None:
    """Measure and print."""
    sys.path.insert(0, str(ROOT))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--differences", type=int, default=20, help="differing pairs to print")
    options = parser.parse_args()
    from nemo_cot.grading.nemo_skills_rule import nemo_skills_equal

    pairs = rows()
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )
    print(f"{len(pairs)} rows, {len(set(pairs))} distinct pairs, {options.workers} workers")
    runs = [ours(options.workers) for _ in range(options.repeats)]
    median = statistics.median(r["seconds"] for r in runs)
    seconds = ", ".join(f"{r['seconds']:.2f}" for r in runs)
    print(f"ours: {median:.2f} s (median of {seconds})")
    print("   ", dict(Counter(runs[0]["outcomes"])))
    for name, rule in (
        ("plain math-verify, serial", plain_math_verify),
        ("NeMo-Skills' rule, serial", nemo_skills_equal),
    ):
        seconds, verdicts = serial(rule, pairs)
        print(f"{name}: {seconds:.1f} s, {seconds / median:.1f} times ours")
        print_differences(pairs, runs[0]["outcomes"], verdicts, options.differences)


if __name__ == "__main__":
    main()
