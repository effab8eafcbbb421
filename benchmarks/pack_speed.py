"""Packing a million lengths: this package, plain first-fit decreasing, and TRL's best-fit decreasing.

    python benchmarks/pack_speed.py [--sequences 1000000] [--capacity 16384] [--sigma 0.5] [--runs 5]

Lengths are log-normal with a mean of 3,000 tokens, cut to 1..capacity, the same for all. Medians
over the runs, one process, no threads. TRL packs tokens, not lengths, and spends most of its time
on copying them: here its function runs on lists that hold no data, and its copies are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from nemo_cot.packing import lower_bound, pack


def main() -> None:
    options = parse()
    lengths = draw_lengths(options.sequences, options.capacity, options.sigma)
    bound = lower_bound(lengths, options.capacity)
    print(f"{datetime.date.today()}, {machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    print(
        f"{options.sequences:,} lengths, log-normal, mean {lengths.mean():.0f}, sigma {options.sigma}, "
        f"capacity {options.capacity:,}, at least {bound:,} packs"
    )
    print("| packer | median s | runs | packs | over the bound | utilisation |")
    print("|---|---|---|---|---|---|")
    for name, packer, runs in packers(options.runs):
        seconds, packs = timed(packer, lengths, options.capacity, runs)
        if packs is None:
            print(f"| {name} | not installed | | | | |")
            continue
        full = lengths.sum() / (packs * options.capacity)
        cells = [name, seconds, runs, f"{packs:,}", f"{packs / bound - 1:.3%}", f"{full:.3%}"]
        print("|", " | ".join(map(str, cells)), "|", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sequences", type=int, default=1_000_000)
    parser.add_argument("--capacity", type=int, default=16_384)
    parser.add_argument("--sigma", type=float, default=0.5)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def draw_lengths(count: int, capacity: int, sigma: float) -> np.ndarray:
    draws = np.random.default_rng(0).lognormal(np.log(3000) - sigma**2 / 2, sigma, count)
    return np.clip(np.round(draws), 1, capacity).astype(np.int64)


def machine() -> str:
    with open("/proc/cpuinfo") as handle:
        names = [line.split(":")[1].strip() for line in handle if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def packers(runs: int) -> list[tuple[str, Callable, int]]:
    with contextlib.suppress(ImportError):
        import trl.data_utils  # noqa: F401  seconds to import, before the clock runs
    return [
        ("nemo-cot best_fit", lambda lengths, room: len(pack(lengths, room)), runs),
        ("nemo-cot shuffle", lambda lengths, room: len(pack(lengths, room, strategy="shuffle")), runs),
        ("first-fit decreasing, plain", first_fit_decreasing, min(runs, 3)),
        ("TRL bfd, its packing alone", trl_bfd, min(runs, 3)),
    ]


def timed(packer: Callable, lengths: np.ndarray, capacity: int, runs: int) -> tuple[str, int | None]:
    """Median seconds, as text, and the number of packs (None: not installed)."""
    times, packs = [], None
    for _ in range(runs):
        start = time.perf_counter()
        packs = packer(lengths, capacity)
        times.append(time.perf_counter() - start)
    return f"{statistics.median(times):.2f}", packs


def first_fit_decreasing(lengths: np.ndarray, capacity: int) -> int:
    """The textbook's: the first pack with room, found by a tree of the most room below each node."""
    size = 1 << (len(lengths) - 1).bit_length()
    most = [capacity] * (2 * size)
    used = 0
    for length in np.sort(lengths)[::-1].tolist():
        node = 1
        while node < size:
            node *= 2
            if most[node] < length:
                node += 1
        used = max(used, node - size + 1)
        most[node] -= length
        while node > 1:
            node //= 2
            left, right = most[2 * node], most[2 * node + 1]
            most[node] = left if left > right else right
    return used


def trl_bfd(lengths: np.ndarray, capacity: int) -> int | None:
    """Packs by TRL's own function, without the Arrow calls that copy tokens; None without TRL."""
    try:
        import pyarrow
        from trl import data_utils
    except ImportError:
        return None
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = pyarrow.LargeListArray.from_arrays(offsets, pyarrow.nulls(int(offsets[-1])))
    real = data_utils.pc
    data_utils.pc = SimpleNamespace(
        take=lambda table, _: table, filter=lambda column, _: column, list_slice=lambda column, *_: column,
        list_value_length=real.list_value_length, greater=real.greater, make_struct=real.make_struct,
    )  # fmt: skip
    try:
        return data_utils._pack_bfd(pyarrow.table({"input_ids": tokens}), capacity).num_rows
    finally:
        data_utils.pc = real


if __name__ == "__main__":
    main()
