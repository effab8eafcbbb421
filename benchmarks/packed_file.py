"""The packed file of the paper's run: 51,200 draws from 20 traces, written and read back.

    python benchmarks/packed_file.py [--runs 3] [--directory /tmp]

Each stage runs in a process of its own, so that its peak memory is its own. The last stage is
plain ``np.load(allow_pickle=True)``, which is what NeMo's loader calls.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nemo_cot.packing import distinct_packs, literal_draws, literal_packs
from nemo_cot.training.nemo_aligner.packed_file import (
    Layout,
    Tokens,
    packed_lengths,
    read_packed_file,
    write_packed_file,
)

LAYOUT = Layout(capacity_tokens=16_384, eos_id=0, end_of_turn_id=1)
TRACES, TOKENS, STEPS, BATCH = 20, 3_000, 50, 1_024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, ", end="")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, medians of {options.runs}")
    print("| stage | s | peak MB | file MB |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        for name, stage, file in STAGES:
            path = Path(folder) / file
            results = [alone(stage, path) for _ in range(options.runs)]
            seconds = statistics.median(result[0] for result in results)
            peak = max(result[1] for result in results)
            print(f"| {name} | {seconds:.1f} | {peak:.0f} | {path.stat().st_size / 1e6:.1f} |", flush=True)


def traces() -> list[Tokens]:
    """20 traces of about 3,000 random tokens, ids up to Qwen's vocabulary."""
    random = np.random.default_rng(0)
    lengths = random.integers(TOKENS - 500, TOKENS + 500, TRACES)
    return [Tokens(np.append(random.integers(2, 151_000, n), 1).astype(np.int32), 200) for n in lengths]


def write_literal(path: Path) -> None:
    drawn = literal_draws(TRACES, STEPS, BATCH, seed=0)
    packs, _, per_step = literal_packs(
        drawn, packed_lengths(traces(), LAYOUT), LAYOUT.capacity_tokens, strategy="shuffle"
    )
    write_packed_file(path, packs, traces(), LAYOUT, packs_per_step=per_step)


def write_distinct(path: Path) -> None:
    drawn = literal_draws(TRACES, STEPS, BATCH, seed=0)
    packs, weights, per_step = distinct_packs(drawn, packed_lengths(traces(), LAYOUT), LAYOUT.capacity_tokens)
    write_packed_file(path, packs, traces(), LAYOUT, packs_per_step=per_step, weights=weights)


def load_with_numpy(path: Path) -> None:
    np.load(path, allow_pickle=True)


STAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("write, literal", write_literal, "literal.npy"),
    ("read back, literal", read_packed_file, "literal.npy"),
    ("np.load, literal", load_with_numpy, "literal.npy"),
    ("write, distinct", write_distinct, "distinct.npy"),
    ("read back, distinct", read_packed_file, "distinct.npy"),
]


def alone(stage: Callable[[Path], object], path: Path) -> tuple[float, float]:
    """Seconds and peak MB of ``stage`` in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (stage, path))


def measured(stage: Callable[[Path], object], path: Path) -> tuple[float, float]:
    start = time.perf_counter()
    stage(path)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
