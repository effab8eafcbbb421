"""Time nemo-cot submit: the dry run as a command, and a submission of 12 jobs after the config is read.

Usage: python benchmarks/submit_speed.py
The submission needs root and Slurm's packages (docs/slurm.md): it starts the tests' own cluster.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
REPEATS = 7
OVERRIDES = [
    "experiment=quickstart", "cluster=slurm_minimal", "generate.chunks=2", "cluster.train_jobs=2",
]  # fmt: skip


def dry_run(runs: Path) -> float:
    """Seconds of the whole command, into a fresh run directory."""
    command = [sys.executable, "-m", "nemo_cot.launchers.cli", "submit", "--dry-run", *OVERRIDES, f"runs_dir={runs}"]
    started = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    return time.perf_counter() - started


def submission(runs: Path) -> tuple[float, int]:
    """Seconds from the config to the last job id and the release, and the number of jobs."""
    from nemo_cot.launchers.slurm import submit as module
    from nemo_cot.launchers.slurm.record import read_submission
    from nemo_cot.launchers.slurm.scheduler import cancel

    read = module.compose_config
    marks: list[float] = []

    def timed(overrides: list[str]) -> object:
        tree = read(overrides)
        marks.append(time.perf_counter())
        return tree

    module.compose_config = timed
    try:
        module.submit_chain([*OVERRIDES, f"runs_dir={runs}"])
    finally:
        module.compose_config = read
    seconds = time.perf_counter() - marks[0]
    jobs = read_submission(runs / "quickstart").jobs
    cancel([job.id for job in jobs])
    return seconds, len(jobs)


def main() -> None:
    """Print a line a measure."""
    from tests.slurm.cluster import Cluster, lacking

    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / str(number) for number in range(2 * REPEATS + 2)]
        dry_run(runs.pop())
        print(
            f"dry run, whole command: {statistics.median(dry_run(runs.pop()) for _ in range(REPEATS)):.2f} s"
        )
        if reason := lacking():
            print(f"submission: not measured, {reason}")
            return
        with Cluster(Path(folder) / "cluster") as cluster:
            os.environ.update(cluster.environment)
            found = [submission(runs.pop()) for _ in range(REPEATS)]
    seconds, jobs = statistics.median(s for s, _ in found), found[0][1]
    print(f"submission of {jobs} jobs, after the config is read: {seconds:.2f} s")


if __name__ == "__main__":
    main()
