"""Float32 masters and float32 gradient accumulation."""

from __future__ import annotations

import pytest
import torch

from nemo_cot.config import OptimConfig, SchedConfig
from nemo_cot.training.local.batches import WeightedPack
from nemo_cot.training.local.objective import pack_scores, pack_tensors
from nemo_cot.training.local.optimizer import MasterAdamW
from tests.training.tiny_models import random_sequences, tiny_model, train_config


def optim(lr=1.0):
    return OptimConfig("adamw", lr, [0.9, 0.95], 1e-8, 0.0, SchedConfig("constant", 0, 0.0))


def test_masters_keep_updates_that_bfloat16_loses():
    torch.manual_seed(0)
    model = torch.nn.Linear(16, 16, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        model.weight.copy_(torch.full((16, 16), 1.0))
    lost = torch.nn.Parameter(model.weight.detach().clone())
    plain = torch.optim.AdamW([lost], lr=1e-5, weight_decay=0.0)
    optimizer = MasterAdamW(model, optim(lr=1e-5))
    for _ in range(400):  # 400 updates of 1e-5 are 0.004, a bfloat16 step below 1.0
        model.weight.sum().backward()
        optimizer.step(1e-5, clip=0.0)
        lost.grad = torch.ones_like(lost)
        plain.step()
    assert (lost == 1.0).all()
    torch.testing.assert_close(
        optimizer.masters["weight"], torch.full((16, 16), 1.0 - 400e-5), rtol=1e-5, atol=0
    )
    assert (model.weight < 1.0).all()


def test_gradients_accumulate_in_float32():
    model = torch.nn.Linear(4, 4, bias=False).to(torch.bfloat16)
    optimizer = MasterAdamW(model, optim())
    for scale in [1.0] + [2.0**-10] * 8:  # each small one is lost when added to 1 in bfloat16
        (model.weight.sum() * scale).backward()
        assert model.weight.grad is None
    gradient = optimizer.masters["weight"].grad
    assert gradient.dtype == torch.float32
    assert (gradient == 1.0 + 8 * 2.0**-10).all()


def test_a_float32_model_is_its_own_master():
    model = tiny_model()
    optimizer = MasterAdamW(model, train_config().optim)
    assert all(optimizer.masters[name] is weight for name, weight in model.named_parameters())


def test_the_gradient_norm_is_clipped():
    def update(clip):
        model = torch.nn.Linear(2, 1, bias=False)
        optimizer = MasterAdamW(
            model, OptimConfig("adamw", 1.0, [0.9, 0.95], 100.0, 0.0, SchedConfig("constant", 0, 0.0))
        )
        before = model.weight.detach().clone()
        (model.weight @ torch.tensor([3.0, 4.0])).sum().backward()
        norm = optimizer.step(1.0, clip=clip)
        return norm, (model.weight.detach() - before).norm().item()

    assert update(0.0)[0] == update(1.0)[0] == pytest.approx(5.0)
    assert update(0.0)[1] / update(1.0)[1] == pytest.approx(5.0, rel=0.05)


def test_norms_and_biases_do_not_decay():
    model = tiny_model("qwen2")
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = MasterAdamW(model, train_config(weight_decay=0.5).optim)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step(0.1, clip=0.0)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), before[name] * (0.95 if weight.ndim >= 2 else 1.0))


def test_a_bfloat16_model_follows_its_masters():
    model = tiny_model().to(torch.bfloat16)
    optimizer = MasterAdamW(model, train_config().optim)
    sequences = random_sequences()
    packed = pack_tensors(WeightedPack((0, 1, 2, 3, 4), (0.02,) * 5), sequences, torch.device("cpu"))
    losses = []
    for _ in range(20):
        loss = pack_scores(model, packed).loss
        loss.backward()
        losses.append(loss.item())
        optimizer.step(3e-3, clip=1.0)
    assert losses[-1] < 0.8 * losses[0]
    for name, weight in model.named_parameters():
        assert torch.equal(weight, optimizer.masters[name].to(torch.bfloat16)), name
