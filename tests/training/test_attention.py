"""Attention inside a pack: each sequence sees itself only."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from transformers.models.llama.modeling_llama import eager_attention_forward

from nemo_cot.errors import UserError
from nemo_cot.models import attention
from nemo_cot.models.attention import packed_attention
from nemo_cot.training.local.batches import WeightedPack
from nemo_cot.training.local.objective import pack_scores, pack_tensors
from tests.training.tiny_models import (
    KINDS,
    VOCABULARY,
    assert_close,
    gradients,
    random_sequences,
    tiny_model,
)

CPU = torch.device("cpu")


def hidden_states(model, packed):
    return model.get_decoder()(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        boundaries=packed.boundaries,
        use_cache=False,
    ).last_hidden_state[0]


def whole(sequences):
    return pack_tensors(WeightedPack(tuple(range(len(sequences))), (1.0,) * len(sequences)), sequences, CPU)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_no_sequence_sees_another(kind):
    model, sequences = tiny_model(kind), random_sequences()
    before = hidden_states(model, whole(sequences))
    bounds = whole(sequences).boundaries
    for changed in range(len(sequences)):
        other = random_sequences()
        other[changed].input_ids = [(t + 1) % VOCABULARY for t in other[changed].input_ids]
        after = hidden_states(model, whole(other))
        for index, (start, end) in enumerate(pairwise(bounds)):
            same = torch.equal(before[start:end], after[start:end])
            assert same == (index != changed)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_hidden_states_are_those_of_the_sequence_alone(kind):
    model, plain = tiny_model(kind), tiny_model(kind, attention="eager")
    sequences = random_sequences((6, 6, 11, 6, 2))  # equal lengths among them
    together, bounds = hidden_states(model, whole(sequences)), whole(sequences).boundaries
    for sequence, start, end in zip(sequences, bounds[:-1], bounds[1:]):
        alone = plain.get_decoder()(input_ids=torch.tensor([sequence.input_ids[:-1]])).last_hidden_state[0]
        torch.testing.assert_close(together[start:end], alone, rtol=1e-5, atol=2e-6)


def test_the_future_is_hidden():
    model, sequences = tiny_model(), random_sequences((12,))
    before = hidden_states(model, whole(sequences))
    sequences[0].input_ids[8] = (sequences[0].input_ids[8] + 1) % VOCABULARY
    after = hidden_states(model, whole(sequences))
    assert torch.equal(before[:8], after[:8])
    assert not torch.equal(before[8:], after[8:])


@pytest.mark.parametrize("kind", KINDS)
def test_activation_checkpointing_gives_the_same_gradients(kind):
    plain, saving = tiny_model(kind), tiny_model(kind)
    saving.gradient_checkpointing_enable({"use_reentrant": False})
    for model in (plain, saving):
        pack_scores(model, whole(random_sequences())).loss.backward()
    assert_close(gradients(saving), gradients(plain), 1e-6)


def test_boundaries_must_cover_the_pack():
    model, packed = tiny_model(), whole(random_sequences())
    with pytest.raises(ValueError, match="do not cover"):
        model.get_decoder()(
            input_ids=packed.input_ids, position_ids=packed.position_ids, boundaries=(0, 5), use_cache=False
        )


def test_a_sequence_longer_than_the_sliding_window_is_refused():
    model = tiny_model("qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=0)
    hidden_states(model, whole(random_sequences((9, 17))))
    with pytest.raises(UserError, match="longer than the model's sliding window of 16"):
        hidden_states(model, whole(random_sequences((9, 18))))


@pytest.mark.parametrize("block", [256, 16])
@pytest.mark.parametrize("heads", [(9, 3), (4, 4), (6, 1)])
def test_held_scores_are_as_close_to_float32_as_transformers_eager_attention(heads, block, monkeypatch):
    monkeypatch.setattr(attention, "_BLOCK", block)
    torch.manual_seed(0)
    grouped = SimpleNamespace(num_key_value_groups=heads[0] // heads[1], training=True)
    exact = [torch.randn(1, n, 40, 16, dtype=torch.bfloat16).float() for n in (heads[0], heads[1], heads[1])]
    causal = torch.full((40, 40), -torch.inf).triu(1)
    results = []
    for kind in ("float32", "held", "eager"):
        dtype = torch.float32 if kind == "float32" else torch.bfloat16
        inputs = [tensor.to(dtype).detach().clone().requires_grad_() for tensor in exact]
        if kind == "held":
            out = packed_attention(grouped, *inputs, None, scaling=0.25, boundaries=(0, 40))[0]
        else:
            out = eager_attention_forward(grouped, *inputs, causal.to(dtype), scaling=0.25)[0]
        out.backward(torch.ones_like(out) * torch.linspace(-1, 1, 16, dtype=dtype))
        results.append([tensor.float() for tensor in (out.detach(), *(t.grad for t in inputs))])
    for truth, held, eager in zip(*results, strict=True):
        assert (held - truth).norm() <= 1.2 * (eager - truth).norm()
        assert (held - truth).norm() <= 0.02 * truth.norm()
