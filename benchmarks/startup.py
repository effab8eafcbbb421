"""Time the commands that have to answer at once: nemo-cot --help and nemo-cot show.

Usage: python benchmarks/startup.py
Each command is run once to warm the disk, then 7 times; medians are printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import describe_machine

COMMANDS = (["--help"], ["show", "experiment=quickstart"], ["plan", "experiment=quickstart"])
REPEATS = 7


def seconds(arguments: list[str]) -> float:
    """Wall time of one run of nemo-cot."""
    command = [str(Path(sys.executable).with_name("nemo-cot")), *arguments]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Print a line a command."""
    print(describe_machine())
    for arguments in COMMANDS:
        seconds(arguments)
        print(
            f"nemo-cot {' '.join(arguments)}: {statistics.median(seconds(arguments) for _ in range(REPEATS)):.3f} s"
        )


if __name__ == "__main__":
    main()
