"""How long all figures of 256 problems x 64 samples take, and `nemo-cot compare` of two such runs.

Usage: python benchmarks/metrics_speed.py [--repeats N]

Each repeat runs in a fresh process. "One model": what evaluate/scores computes, an interval of 10,000 resamples for each:
pass@1, pass@k, maj@k with both votes, NeMo-Skills' figures, rates; over all problems, over three subsets, and over
k = 1, 2, 4, ... 64. "Two models" adds the paired differences. Reading the rows is included, the import of the library
is not. The compare command is timed as a whole, with files of 160 MB per run (9 KB of text per sample).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
PROBLEMS, SAMPLES = 256, 64
TEXT = "x " * 4500
CODE = "import sys; sys.path.insert(0, sys.argv[1]); from metrics_speed import work; print(*work(int(sys.argv[2])))"


def rows(seed: int) -> list[dict]:
    """Graded rows in three subsets, answers in several spellings; 4 of 10 wrong ones occur once or twice."""
    draw = random.Random(seed)
    found = []
    for problem in range(PROBLEMS):
        values = [draw.randint(2, 999) for _ in range(12)]
        subset = "aime24" if problem < 30 else "aime25" if problem < 60 else "hmmt-24-25"
        for sample in range(SAMPLES):
            value = values[min(int(draw.expovariate(0.5)), 11)]
            verdict = "right" if value == values[0] else draw.choice(["wrong"] * 30 + ["undecided"])
            if verdict == "wrong" and draw.random() < 0.4:
                value = draw.randint(2, 9999)
            forms = ["{v}", "{v}", "{v}.0", "\\frac{{{v}}}{{7}}", "{v}\\sqrt{{3}}", "({v}, 1)"]
            answer = draw.choice(forms).format(v=value)
            found.append(
                {
                    "problem_id": str(problem), "sample": sample, "problem": f"Problem {problem}",
                    "expected_answer": "1", "subset_for_metrics": subset,
                    "num_generated_tokens": draw.randint(50, 4000), "finish_reason": draw.choice(["stop", "length"]),
                    "predicted_answer": answer, "answer_source": draw.choice(["boxed", "phrase"]),
                    "verdict": verdict, "symbolic_correct": verdict == "right", "nemo_skills_answer": answer,
                }
            )  # fmt: skip
    return found


def work(models: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU, for the scores of one or two models."""
    import msgspec

    from nemo_cot.evaluation.graded_runs import GradedSample
    from nemo_cot.evaluation.scores import score
    from nemo_cot.experiment.compose import load_config

    config = load_config([f"evaluate.samples_per_problem={SAMPLES}"]).evaluate
    assert config.bootstrap_resamples == 10_000
    names = ("base", "trained")[:models]
    graded = {name: msgspec.convert(rows(seed), list[GradedSample]) for seed, name in enumerate(names)}
    start, cpu = time.perf_counter(), time.process_time()
    score(graded, config)
    return time.perf_counter() - start, time.process_time() - cpu


def in_fresh_process(models: int) -> tuple[float, float]:
    """:func:`work`, in a process of its own."""
    command = [sys.executable, "-c", CODE, str(Path(__file__).parent), str(models)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


def compare_seconds(runs: Path) -> tuple[float, float]:
    """Seconds, and seconds of CPU, of the whole command over the two runs below ``runs``."""
    command = [sys.executable, "-m", "nemo_cot.launchers.cli", "compare", "one", "two", f"runs_dir={runs}"]
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return wall, cpu


def write_runs(runs: Path) -> None:
    """The graded files of two runs."""
    for seed, name in enumerate(("one", "two")):
        folder = runs / name / "evaluate" / "scores"
        folder.mkdir(parents=True)
        with open(folder / "trained.jsonl", "w") as handle:
            for row in rows(seed):
                handle.write(json.dumps({**row, "generation": TEXT}) + "\n")


def environment() -> dict[str, str]:
    """This checkout's modules first."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder))
        for name, measure in (
            ("scores of one model", lambda: in_fresh_process(1)),
            ("scores of two models, with paired differences", lambda: in_fresh_process(2)),
            ("nemo-cot compare, two runs", lambda: compare_seconds(Path(folder))),
        ):
            seconds, cpu = zip(*(measure() for _ in range(repeats)))
            print(
                f"{name}, {PROBLEMS} x {SAMPLES}, 10,000 resamples: {statistics.median(seconds):.2f} s "
                f"({min(seconds):.2f} to {max(seconds):.2f}; median of {repeats}); CPU {statistics.median(cpu):.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
