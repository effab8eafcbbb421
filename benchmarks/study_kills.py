"""kill -9 of a study at ten moments: it resumes, does no shared stage twice, and ends with the same table.

    python benchmarks/study_kills.py [--kills 10] [--jobs 1]

A study of four runs of a random model, once undisturbed, then with a kill of the whole process group after each share of
the time that the undisturbed one took; after each kill the same command goes on until the next.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.support import tiny_experiment  # noqa: E402
from tests.tiny import write_tiny_model  # noqa: E402

SHARED = ("convert", "problems", "generate", "grade", "evaluate/base")


def write_study(folder: Path) -> None:
    model = write_tiny_model(folder / "model")
    common = [o for o in tiny_experiment(model, folder) if not o.startswith(("name=", "runs_dir="))]
    runs = {"right": ["train.global_batch_size=3"], "wrong": ["train.global_batch_size=3", "curate.verdicts=[wrong]"]}
    study = {"overrides": common, "runs": runs, "baseline": "right", "repeats": {"train.seed": [1, 2]}}
    (folder / "study").mkdir()
    (folder / "study/small.yaml").write_text(json.dumps(study))


def start(folder: Path, runs: Path, jobs: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "nemo_cot.launchers.cli", "run", "study=small", f"runs_dir={runs}", "--jobs", str(jobs)]
    environment = {**os.environ, "NEMO_COT_CONFIG_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def table(runs: Path) -> dict:
    return json.loads((runs / "small/study.json").read_text())


def makers(runs: Path) -> dict[str, int]:
    """How many runs did the work of each shared stage."""
    return {
        stage: sum(
            json.loads(path.read_text())["reused_from"] is None
            for path in (runs / "small").glob(f"*/{stage}/manifest.json")
        )
        for stage in SHARED
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_study(folder)
        started = time.monotonic()
        code = start(folder, folder / "whole", chosen.jobs).wait()
        seconds = time.monotonic() - started
        print(f"undisturbed: exit code {code}, {seconds:.0f} s", flush=True)
        killed = 0
        for _ in range(chosen.kills):
            process = start(folder, folder / "cut", chosen.jobs)
            try:
                process.wait(seconds / chosen.kills)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
        code = start(folder, folder / "cut", chosen.jobs).wait()
        same = table(folder / "cut") == table(folder / "whole")
        print(f"killed {killed} times, then: exit code {code}, same table: {same}, done by so many runs: {makers(folder / 'cut')}")


if __name__ == "__main__":
    main()
