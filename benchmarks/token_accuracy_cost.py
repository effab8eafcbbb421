"""What token accuracy costs a training step: the one further pass over the logits, beside the work on a chunk of them.

    python benchmarks/token_accuracy_cost.py

A chunk of 512 tokens with the widths of SmolLM2-135M (576 and a vocabulary of 49,152), bfloat16: the projection, loss
and slope, and both gradients, as nemo_cot.training.local.objective computes them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from machine import describe_machine

from nemo_cot.training.local.objective import CHUNK_TOKENS, _loss_and_slope

HIDDEN, VOCABULARY, REPEATS = 576, 49_152, 9


def main() -> None:
    """Print the median times of the whole chunk and of the pass alone, in ms."""
    torch.manual_seed(0)
    hidden = torch.randn(CHUNK_TOKENS, HIDDEN, dtype=torch.bfloat16)
    weight = torch.randn(VOCABULARY, HIDDEN, dtype=torch.bfloat16) * 0.02
    targets = torch.randint(0, VOCABULARY, (CHUNK_TOKENS,))
    weights = torch.full((CHUNK_TOKENS,), 1e-3)
    logits = (hidden @ weight.T).float()

    def chunk() -> None:
        _, _, slope = _loss_and_slope(hidden @ weight.T, targets, weights)
        _ = slope @ weight, slope.T @ hidden

    def hits() -> None:
        _ = (logits.gather(1, targets.unsqueeze(1)).squeeze(1) >= logits.amax(-1)).float()

    print(describe_machine())
    whole, part = _median(chunk), _median(hits)
    print(f"chunk {whole * 1e3:.1f} ms, of which the accuracy {part * 1e3:.1f} ms ({part / whole:.1%})")


def _median(work: Callable[[], None]) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
