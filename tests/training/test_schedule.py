"""The learning rate of every step, by hand, and what holds for any schedule."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_cot.config import OptimConfig, SchedConfig
from nemo_cot.training.local.schedule import learning_rate

NAMES = ("constant", "linear", "cosine")


def rates(steps: int, name: str = "constant", warmup: int = 0, lr: float = 1.0, min_lr: float = 0.0) -> list[float]:
    optim = OptimConfig("adamw", lr, [0.9, 0.95], 1e-8, 0.0, SchedConfig(name, warmup, min_lr))
    return [learning_rate(step, steps, optim) for step in range(steps)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (rates(6), [1, 1, 1, 1, 1, 1]),
        (rates(6, warmup=4), [0.25, 0.5, 0.75, 1, 1, 1]),
        (rates(4, warmup=2, lr=6.0), [3, 6, 6, 6]),
        (rates(4, min_lr=0.5), [1, 1, 1, 1]),
        (rates(6, "linear", warmup=2), [0.5, 1, 1, 2 / 3, 1 / 3, 0]),
        (rates(6, "linear", min_lr=0.5), [1, 0.9, 0.8, 0.7, 0.6, 0.5]),
        (rates(3, "linear", lr=8.0, min_lr=2.0), [8, 5, 2]),
        (rates(6, "cosine", min_lr=0.1), [0.1 + 0.9 * (1 + math.cos(math.pi * i / 5)) / 2 for i in range(6)]),
        (rates(5, "cosine", warmup=2, lr=2.0), [1, 2, 2, 1, 0]),
        (rates(6, "cosine", warmup=6), [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1]),
        (rates(3, "linear", warmup=2), [0.5, 1, 1]),
        (rates(2, "linear"), [1, 0]),
    ],
)  # fmt: skip
def test_learning_rates(found, expected):
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
def test_one_step_trains_at_the_full_rate(name):
    assert rates(1, name) == [1.0]


@pytest.mark.parametrize(("name", "last"), [("constant", 3.0), ("linear", 1.0), ("cosine", 1.0)])
def test_a_step_beyond_the_last_stays_where_that_one_was(name, last):
    optim = OptimConfig("adamw", 3.0, [0.9, 0.95], 1e-8, 0.0, SchedConfig(name, 1, 1.0))
    assert [learning_rate(step, 5, optim) for step in (4, 5, 40)] == pytest.approx([last] * 3)


@given(st.sampled_from(NAMES), st.integers(2, 30), st.integers(0, 10), st.floats(0, 1))
def test_rates_rise_to_lr_then_never_rise_and_stay_above_min_lr(name, steps, warmup, min_lr):
    found = rates(steps, name, warmup, 1.0, min_lr)
    rising, falling = found[:warmup], found[max(0, warmup - 1) :]
    assert rising == sorted(rising) and all(rate > 0 for rate in rising)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(falling))
    assert all(min(min_lr, 1 / max(1, warmup)) - 1e-12 <= rate <= 1 for rate in found)
    if steps > warmup:
        assert found[warmup] == 1.0
    if steps > warmup + 1 and name != "constant":
        assert found[-1] == pytest.approx(min_lr)
