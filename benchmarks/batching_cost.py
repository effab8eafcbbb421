"""What distinct batching saves: one optimizer step of 1,024 draws from 20 traces, computed both ways.

Usage: python benchmarks/batching_cost.py [--model DIR] [--share 0.05]
literal computes every draw, distinct each trace once. The distinct step is measured whole, after a first
one that is not counted. Of the literal step's packs the share ``--share`` is measured (1: all), and the
step's time is estimated from it; the output says so.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from machine import describe_machine
from training_common import model_directory, traces, train_config, versions

from nemo_cot.config import PackConfig, TrainConfig
from nemo_cot.models.attention import PACKED
from nemo_cot.models.loading import load_model
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.training.local.allocator import keep_freed_memory
from nemo_cot.training.local.batches import BatchPlan, WeightedPack
from nemo_cot.training.local.objective import pack_scores, pack_tensors
from nemo_cot.training.local.optimizer import MasterAdamW

TRACES, DRAWS, TERMS, REPEATS = 20, 1024, 3, 5


def main() -> None:
    """Measure and print a table."""
    arguments = _arguments()
    packing = PackConfig(arguments.capacity, "best_fit", 0)
    with model_directory(arguments.model) as folder:
        sequences = traces(folder, TERMS, TRACES)
        literal, distinct = (_plan(batching, packing, sequences) for batching in ("literal", "distinct"))
        keep_freed_memory()
        model = load_model(folder, precision="bf16", attention=PACKED, device=torch.device("cpu")).train()
        optimizer = MasterAdamW(model, train_config(DRAWS, 1).optim)
        once = [_step(model, optimizer, distinct, sequences) for _ in range(1 + REPEATS)][1:]
        measured = literal[: max(1, round(arguments.share * len(literal)))]
        every = _step(model, optimizer, measured, sequences) * len(literal) / len(measured)
    print(
        _report(
            arguments.capacity, sequences, literal, distinct, statistics.median(once), every, len(measured)
        )
    )


def _plan(batching: str, packing: PackConfig, sequences: list[TokenSequence]) -> list[WeightedPack]:
    config: TrainConfig = train_config(DRAWS, 1, batching=batching)
    return BatchPlan(config, packing, sequences).packs(0)


def _step(
    model: torch.nn.Module, optimizer: MasterAdamW, packs: list[WeightedPack], sequences: list[TokenSequence]
) -> float:
    """Seconds for the gradients of ``packs`` and one update."""
    started = time.monotonic()
    for packed in packs:
        pack_scores(model, pack_tensors(packed, sequences, torch.device("cpu"))).loss.backward()
    optimizer.step(1e-5, clip=1.0)
    return time.monotonic() - started


def _report(
    capacity: int,
    sequences: list[TokenSequence],
    literal: list[WeightedPack],
    distinct: list[WeightedPack],
    once: float,
    every: float,
    measured: int,
) -> str:
    def tokens(packs: list[WeightedPack]) -> int:
        return sum(len(sequences[i].input_ids) for packed in packs for i in packed.sequences)

    kind = "measured whole" if measured == len(literal) else f"from {measured} of {len(literal)} packs"
    rows = [
        f"{describe_machine()}; {versions(('torch', 'transformers'))}",
        f"{TRACES} traces, {DRAWS} draws a step, packs of {capacity:,}, bf16 with float32 masters",
        "",
        "| batching | sequences | packs | tokens | seconds per step | |",
        "|---|---|---|---|---|---|",
        f"| literal | {DRAWS} | {len(literal)} | {tokens(literal):,} | {every:.1f} | {kind} |",
        f"| distinct | {TRACES} | {len(distinct)} | {tokens(distinct):,} | {once:.1f} | median |",
        "",
        f"distinct computes {tokens(literal) / tokens(distinct):.1f} times fewer tokens and "
        f"takes {every / once:.1f} times less time",
    ]
    return "\n".join(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, help="a Hugging Face directory (default: SmolLM2-135M, made here)"
    )
    parser.add_argument("--capacity", type=int, default=1024, help="tokens per pack")
    parser.add_argument(
        "--share", type=float, default=0.1, help="share of the literal step's packs to compute"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
