"""Time `make run` in a fresh clone: installation, every stage, the whole.

Usage: python benchmarks/clean_clone.py [--keep FOLDER] [-- make variables, such as TORCH_INDEX=...]
Clones the committed state of this repository, so uncommitted changes are not measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run once and print the figures; exits with make's code when it fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="clone into this folder and leave it there")
    parser.add_argument("variables", nargs="*", help="make variables")
    arguments = parser.parse_args()
    if arguments.keep:
        measure(arguments.keep, arguments.variables)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder) / "nemo-cot", arguments.variables)


def measure(clone: Path, variables: list[str]) -> None:
    """Clone, install, run; print a line a part. Seconds of wall time."""
    print(describe_machine())
    started = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(clone)], check=True)
    make(clone, [".venv/.local", *variables])
    installed = time.monotonic()
    make(clone, ["run", *variables])
    ended = time.monotonic()
    print(
        f"install {installed - started:.0f} s, chain {ended - installed:.0f} s, clone to report {ended - started:.0f} s"
    )
    for manifest in sorted(clone.glob("runs/quickstart/**/manifest.json"), key=lambda p: p.stat().st_mtime):
        content = json.loads(manifest.read_text())
        print(f"  {content['stage']}: {content['wall_seconds']:.1f} s")
    scores = json.loads((clone / "runs/quickstart/evaluate/scores/metrics.json").read_text())
    for name, subject in scores["subjects"].items():
        lenient = subject["lenient"]
        print(
            f"  {name}: lenient pass@1 {100 * lenient['value']:.1f} % ({lenient['count']} of {lenient['total']})"
        )
    effect = scores["learning_effect"]["lenient"]
    print(
        f"  learning effect {100 * effect['value']:+.1f} points [{100 * effect['low']:+.1f}, {100 * effect['high']:+.1f}]"
    )


def make(clone: Path, arguments: list[str]) -> None:
    """Run make in the clone; its output passes through."""
    done = subprocess.run(["make", *arguments], cwd=clone)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
