"""NeMo's learning-rate schedulers over the 50 steps of a run."""

from __future__ import annotations

import math

import pytest

STEPS, PEAK = 50, 1e-5


def learning_rates(peak: float, loader=None, **sched) -> list[float]:
    """Rate of each step, from the real scheduler, stepped as Aligner's SupervisedTrainer does.

    ``sched`` is model.optim.sched. NeMo sets its max_steps from the trainer's.
    """
    if loader is None:
        sched["max_steps"] = STEPS
    import torch
    from nemo.core.optim import prepare_lr_scheduler
    from omegaconf import OmegaConf

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    config = OmegaConf.create(sched)
    scheduler = prepare_lr_scheduler(optimizer, config, loader)["scheduler"]
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def intended_cosine(step: int, warmup: int, min_lr: float) -> float:
    """NeMo's documented curve: (step + 1)/(warmup + 1) of the peak, then half a cosine to min_lr."""
    if step <= warmup:
        return PEAK * (step + 1) / (warmup + 1)
    done = (step - warmup) / (STEPS - warmup)
    return min_lr + (PEAK - min_lr) * 0.5 * (1 + math.cos(math.pi * done))


@pytest.mark.parametrize(("warmup", "min_lr"), [(5, 0.0), (5, 1e-6), (0, 0.0), (10, 9e-7)])
def test_without_constant_steps_the_rate_warms_up_and_falls_to_the_last_step(warmup, min_lr):
    rates = learning_rates(PEAK, name="CosineAnnealing", warmup_steps=warmup, constant_steps=0, min_lr=min_lr)
    assert rates == pytest.approx([intended_cosine(step, warmup, min_lr) for step in range(STEPS)])
    assert rates.index(max(rates)) == warmup
    assert max(rates) == pytest.approx(PEAK)
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert min_lr < rates[-1] < PEAK / 5


def test_trap_the_shipped_schedule_sits_at_its_minimum_for_39_of_50_steps():
    shipped = learning_rates(PEAK, name="CosineAnnealing", warmup_steps=10, constant_steps=1000, min_lr=9e-7)
    assert shipped.index(max(shipped)) == 10
    assert shipped[11:] == pytest.approx([9e-7] * 39)
    intended = [intended_cosine(step, 10, 9e-7) for step in range(STEPS)]
    assert shipped != pytest.approx(intended)
    assert sum(shipped) < 0.4 * sum(intended)


def test_a_constant_rate_after_warm_up():
    rates = learning_rates(PEAK, name="WarmupPolicy", warmup_steps=4)
    assert rates[:5] == pytest.approx([PEAK * (step + 1) / 5 for step in range(5)])
    assert rates[5:] == pytest.approx([PEAK] * 45)


@pytest.mark.parametrize("fixed", [False, True])
def test_trap_a_trainer_without_max_steps_spreads_the_schedule_over_micro_batches(build_loader, fixed):
    # With trainer.max_steps = -1 ModelPT.setup_optimization passes these keys in place of
    # max_steps, and NeMo divides the samples by the micro batch, not by the global batch.
    keys = {"t_max_epochs": 1, "t_accumulate_grad_batches": 1}
    keys |= {"t_limit_train_batches": 1.0, "t_num_workers": 1}
    if fixed:
        keys["max_steps"] = STEPS  # model.optim.sched.max_steps, set by hand, goes first
    loader = build_loader(range(STEPS * 1024), global_batch_size=1024)
    rates = learning_rates(
        PEAK, loader, name="CosineAnnealing", warmup_steps=5, constant_steps=0, min_lr=0.0, **keys
    )
    intended = [intended_cosine(step, 5, 0.0) for step in range(STEPS)]
    assert (rates == pytest.approx(intended)) == fixed
    assert (rates[-1] > 0.99 * PEAK) != fixed
