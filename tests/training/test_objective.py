"""The packed, chunked loss against transformers' own loss of each sequence by itself."""

from __future__ import annotations

import pytest
import torch

from nemo_cot.training.local import objective
from nemo_cot.training.local.batches import WeightedPack
from nemo_cot.training.local.objective import pack_scores, pack_tensors
from tests.training.tiny_models import KINDS, assert_close, gradients, random_sequences, tiny_model

CPU = torch.device("cpu")
WEIGHTS = (0.011, 0.02, 0.5, 0.003, 0.04)


def packed_loss(model, sequences, weights=WEIGHTS):
    packed = WeightedPack(tuple(range(len(sequences))), tuple(weights))
    return pack_scores(model, pack_tensors(packed, sequences, CPU)).loss


def reference_loss(model, sequences, weights=WEIGHTS):
    """transformers' mean over the trained tokens of a sequence, alone in its batch, times their number."""
    total = 0.0
    for sequence, weight in zip(sequences, weights):
        ids = torch.tensor([sequence.input_ids])
        labels = ids.clone()
        labels[:, : sequence.num_prompt_tokens] = -100
        total = total + model(input_ids=ids, labels=labels).loss * sequence.num_trained_tokens * weight
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [5, 256])
def test_packed_equals_unpacked_in_fp32(kind, chunk, monkeypatch):
    monkeypatch.setattr(objective, "CHUNK_TOKENS", chunk)
    sequences = random_sequences()
    packed, plain = tiny_model(kind), tiny_model(kind, attention="eager")
    loss, expected = packed_loss(packed, sequences), reference_loss(plain, sequences)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    loss.backward()
    expected.backward()
    assert_close(gradients(packed), gradients(plain))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_gradients_point_the_same_way(kind):
    model, low = tiny_model(kind), tiny_model(kind).to(torch.bfloat16)
    sequences = random_sequences()
    packed_loss(model, sequences).backward()
    packed_loss(low, sequences).backward()
    for name, gradient in gradients(model).items():
        found = gradients(low)[name].float()
        assert torch.cosine_similarity(found.flatten(), gradient.flatten(), dim=0) > 0.99, name


def test_a_scaled_loss_scales_its_gradients():
    model, scaled = tiny_model(), tiny_model()
    packed_loss(model, random_sequences()).backward()
    (packed_loss(scaled, random_sequences()) * 3).backward()
    assert_close(gradients(scaled), {name: 3 * g for name, g in gradients(model).items()}, 1e-6)


def test_a_frozen_projection_gets_no_gradient():
    model = tiny_model("llama_untied")
    model.lm_head.weight.requires_grad_(False)
    packed_loss(model, random_sequences()).backward()
    assert model.lm_head.weight.grad is None
    assert model.get_input_embeddings().weight.grad is not None


def test_no_more_than_a_chunk_of_logits_exists(monkeypatch):
    monkeypatch.setattr(objective, "CHUNK_TOKENS", 8)
    rows, exponentiate = [], torch.Tensor.exp_

    def watch(tensor):
        rows.append(tuple(tensor.shape))
        return exponentiate(tensor)

    monkeypatch.setattr(torch.Tensor, "exp_", watch)
    packed_loss(tiny_model(), random_sequences())
    assert len(rows) > 2
    assert max(shape[0] for shape in rows) <= 8


def test_a_projection_with_a_bias_is_refused():
    model = tiny_model("llama_untied")
    model.lm_head = torch.nn.Linear(32, 97, bias=True)
    with pytest.raises(NotImplementedError, match="bias"):
        packed_loss(model, random_sequences())


def test_pack_tensors_by_hand():
    first, second = random_sequences((4, 5))
    packed = pack_tensors(WeightedPack((1, 0), (0.25, 0.5)), [first, second], CPU)
    assert packed.input_ids.tolist() == [second.input_ids[:-1] + first.input_ids[:-1]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert packed.boundaries == (0, 4, 7)
    assert packed.predictors.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert packed.targets.tolist() == second.input_ids[1:] + first.input_ids[1:]
    assert packed.weights.tolist() == [0.25] * 4 + [0.5] * 3
