"""The learning rate of a step, as a pure function."""

from __future__ import annotations

import math

from nemo_cot.config import OptimConfig


def learning_rate(step: int, max_steps: int, optim: OptimConfig) -> float:
    """Learning rate of ``step`` (from 0) out of ``max_steps``.

    Linear warm-up from lr / warmup_steps to lr, reached at step warmup_steps - 1 (the first step
    already learns); then constant, or a linear or cosine decay that reaches min_lr at the last step.
    """
    sched = optim.sched
    if step < sched.warmup_steps:
        return optim.lr * (step + 1) / sched.warmup_steps
    if sched.name == "constant":
        return optim.lr
    span = max(1, max_steps - 1 - sched.warmup_steps)
    done = min(1.0, (step - sched.warmup_steps) / span)
    left = 1.0 - done if sched.name == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return sched.min_lr + (optim.lr - sched.min_lr) * left
