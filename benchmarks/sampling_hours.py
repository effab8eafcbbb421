"""GPU-hours of the paper's sampling on 8 H100, simulated: the presets of before and of now, and other layouts.

    python benchmarks/sampling_hours.py

25,600 answers of 4K tokens (the teacher's) and twice 16,384 of 7.5K (the evaluation of base and trained model), by a
model of Qwen2.5-32B's shape, with the servers' starts. Takes a minute; nothing is measured on a GPU.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from machine import describe_machine

from nemo_cot.experiment.compose import load_config
from nemo_cot.preflight.estimate import estimate

PAPER = ["experiment=paper_main", "problems.train_path=/x", "problems.heldout_path=/x", "model.path=/x", "teacher.path=null"]


@dataclass(frozen=True)
class Layout:
    """``label``, and the overrides of the teacher's and of the evaluation's section that make it."""

    label: str
    chunks: tuple[int, int]
    copies: tuple[int, int]
    parallel: int
    seeded: bool
    overlapped: bool = True

    def overrides(self) -> list[str]:
        """Of both sections."""
        arguments = "[]" if self.overlapped else "[--no-async-scheduling]"
        found = [f"generate.chunks={self.chunks[0]}", f"evaluate.chunks={self.chunks[1]}"]
        for key, copies in zip(("teacher", "evaluate"), self.copies):
            found += [
                f"{key}.engine.server.data_parallel_size={copies}",
                f"{key}.engine.seeds_in_parallel={self.parallel}",
                f"{key}.engine.server.arguments={arguments}",
                f"{key}.sampling.seeded={str(self.seeded).lower()}",
            ]
        return found


LAYOUTS = [
    Layout("before", (16, 4), (1, 1), 16, True, overlapped=False),
    Layout("before, without seeds", (16, 4), (1, 1), 16, False, overlapped=False),
    Layout("before, overlapped", (16, 4), (1, 1), 16, True),
    Layout("presets, not overlapped", (2, 2), (1, 1), 32, False, overlapped=False),
    Layout("presets", (2, 2), (1, 1), 32, False),
    Layout("presets, seeded", (2, 2), (1, 1), 32, True),
    Layout("presets, one chunk", (1, 1), (1, 1), 32, False),
    Layout("presets, 4 chunks", (4, 4), (1, 1), 32, False),
    Layout("presets, 16 seeds at a time", (2, 2), (1, 1), 16, False),
    Layout("presets, 48 seeds at a time", (2, 2), (1, 1), 48, False),
    Layout("presets, TP 4 x 2", (2, 2), (2, 2), 32, False),
    Layout("presets, TP 4 x 2, not overlapped", (2, 2), (2, 2), 32, False, overlapped=False),
    Layout("presets, TP 2 x 4", (2, 2), (4, 4), 32, False),
]


def main() -> None:
    """Print the table."""
    print(describe_machine())
    print("| layout | teacher: tokens/s, in flight, GPU-hours | one evaluation | GPU-hours in all | of before |")
    print("|---|---|---|---|---|")
    first = 0.0
    for layout in LAYOUTS:
        cost = estimate(load_config([*PAPER, *layout.overrides()]), None, 256, num_train=50)
        hours = {one.stage: one.hours for one in cost.sampling}
        total = sum(one.gpu_hours.middle for one in hours.values())
        first = first or total
        cells = (
            f"{one.sampled.tokens_per_second:,.0f}, {one.sampled.in_flight:.0f}, {one.gpu_hours.middle:.1f}"
            for one in (hours["generate"], hours["evaluate/base"])
        )
        print(f"| {layout.label} | {' | '.join(cells)} | {total:.1f} | {total / first:.0%} |", flush=True)


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s")
