"""How long a study of 200 runs takes to plan, to show its status, and to compare: 40 variants x 5 repeats.

    python benchmarks/study_speed.py [--runs 200]

The variants take turns among the shipped experiments that need no further values, each with its own learning rate; whole
commands, in a fresh process each. ``stages``: what is done once and what would be done without sharing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ("quickstart", "quickstart_wrong", "quickstart_self", "quickstart_paper_lr")
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    print(describe_machine())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "study").mkdir()
        names = {
            f"v{number:02d}": [
                f"experiment={EXPERIMENTS[number % len(EXPERIMENTS)]}", f"train.optim.lr={1e-4 * (1 + number / 100)}"
            ]
            for number in range(runs // REPEATS)
        }  # fmt: skip
        study = {"runs": names, "baseline": "v00", "repeats": {"train.seed": list(range(REPEATS))}}
        (place / "study/many.yaml").write_text(json.dumps(study))
        environment = {**os.environ, "NEMO_COT_CONFIG_DIR": folder, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        for verb in ("plan", "status"):
            command = [sys.executable, "-m", "nemo_cot.launchers.cli", verb, "study=many"]
            before, started = os.times(), time.perf_counter()
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            seconds, after = time.perf_counter() - started, os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            last = done.stdout.strip().splitlines()[-1] if done.stdout else done.stderr.strip()[-300:]
            print(f"{verb}, {runs} runs: {seconds:.2f} s, {cpu:.2f} s of CPU; {last}", flush=True)


if __name__ == "__main__":
    main()
