"""The embedded sampler against transformers' own generate, and against exact probabilities."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import nemo_cot.models.attention  # noqa: F401 (registers the attention functions)
from nemo_cot.sampling.embedded import decode
from nemo_cot.sampling.embedded.decode import Decoding, Request, sample_batch

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": None,
}
PROMPTS = ([3, 5, 7], [9, 11, 13, 15, 17, 19, 21, 23], [2], [30, 31, 32, 33, 34])


def tiny_model(kind="llama", attention="nemo_cot_sampling"):
    torch.manual_seed(0)
    shape = SHAPE | {"attn_implementation": attention}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape), dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model.eval()


def decoding(**changes):
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 24, "stop_ids": (), "seed": 5}
    return Decoding(**(values | changes))


def requests(prompts=PROMPTS, samples=3):
    return [
        Request(list(prompt), f"{number}:{sample}")
        for number, prompt in enumerate(prompts)
        for sample in range(samples)
    ]


def generate(model, prompt, new):
    """transformers' own greedy continuation of one prompt, alone."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new, pad_token_id=0
    )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_greedy_equals_generate_token_by_token(kind):
    plain = tiny_model(kind, "eager")
    found = sample_batch(tiny_model(kind), requests(samples=1), decoding(temperature=0.0))
    assert [c.token_ids for c in found] == [generate(plain, prompt, 24) for prompt in PROMPTS]
    assert len({token for c in found for token in c.token_ids}) > 8


def test_each_step_is_counted():
    counts = []
    stops = decoding(stop_ids=tuple(range(0, 64, 4)))
    found = sample_batch(tiny_model(), requests(), stops, lambda *seen: counts.append(seen))
    ended = [sum(c.finish_reason == "stop" and c.num_generated_tokens <= n for c in found) for n in range(1, len(counts) + 1)]
    assert [count for count, _ in counts] == ended and ended[-1] > 0
    assert counts[-1][1] == sum(c.num_generated_tokens for c in found) and counts[0][1] == len(found)


def test_left_padding_does_not_change_greedy_results():
    model, greedy = tiny_model(), decoding(temperature=0.0)
    together = sample_batch(model, requests(samples=1), greedy)
    alone = [sample_batch(model, [request], greedy)[0] for request in requests(samples=1)]
    assert together == alone


def test_the_same_seed_gives_the_same_tokens_and_another_does_not():
    model = tiny_model()
    first, again, other = (sample_batch(model, requests(), decoding(seed=seed)) for seed in (5, 5, 6))
    assert first == again
    assert all(a.token_ids != b.token_ids for a, b in zip(first, other))
    assert len({tuple(c.token_ids) for c in first[:3]}) == 3


def test_a_batch_does_not_depend_on_what_was_sampled_before():
    whole = requests()
    batches = [whole[:6], whole[6:]]
    one = [sample_batch(tiny_model(), batch, decoding()) for batch in batches]
    assert sample_batch(tiny_model(), batches[1], decoding()) == one[1]


def test_a_row_has_its_own_stream():
    model = tiny_model()
    alone = [sample_batch(model, [request], decoding())[0] for request in requests()]
    assert alone == sample_batch(model, requests(), decoding())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_dropping_finished_rows_changes_nothing(temperature, monkeypatch):
    model, wanted = tiny_model(), decoding(temperature=temperature, stop_ids=(4, 8, 15, 16, 23, 42))
    results, sizes = [], []
    for share in (0.0, 1.0):
        monkeypatch.setattr(decode, "_COMPACT_BELOW", share)
        select = decode.PreallocatedCache.select
        monkeypatch.setattr(
            decode.PreallocatedCache,
            "select",
            lambda cache, rows, s=select: (sizes.append(len(rows)), s(cache, rows))[1],
        )
        results.append(sample_batch(model, requests(), wanted))
    assert results[0] == results[1]
    if temperature:
        assert len({c.num_generated_tokens for c in results[0]}) > 1
        assert min(sizes) < len(requests())


def test_stop_tokens_end_a_sample_and_are_left_out():
    model = tiny_model()
    free = sample_batch(model, requests(), decoding())
    stop = free[0].token_ids[5]
    for before, after in zip(free, sample_batch(model, requests(), decoding(stop_ids=(stop,)))):
        if stop in before.token_ids:
            length = before.token_ids.index(stop)
            assert (after.token_ids, after.finish_reason) == (before.token_ids[:length], "stop")
            assert after.num_generated_tokens == length + 1
        else:
            assert (after.token_ids, after.finish_reason, after.num_generated_tokens) == (
                before.token_ids,
                "length",
                24,
            )


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (1.0, 0, 1.0),
        (0.5, 0, 1.0),
        (2.0, 0, 1.0),
        (1.0, 4, 1.0),
        (1.0, 0, 0.7),
        (0.7, 5, 0.8),
        (1.0, 1, 1.0),
        (1.0, 100, 1.0),
    ],
)
def test_draws_follow_the_exact_probabilities(temperature, top_k, top_p):
    logits = torch.tensor([0.3, 2.0, -1.0, 1.1, 0.0, 1.7, -3.0, 0.9])
    expected = exact(logits, temperature, top_k, top_p)
    count = 20_000
    uniforms = torch.from_numpy(decode._stream("distribution").random(count))
    form = decoding(temperature=temperature, top_k=top_k, top_p=top_p)
    drawn = torch.bincount(decode._draw(logits.expand(count, -1), uniforms, form), minlength=8).double()
    assert (drawn[expected == 0] == 0).all()
    kept = expected > 0
    chi_square = ((drawn - count * expected)[kept] ** 2 / (count * expected[kept])).sum()
    assert chi_square < 24.3  # 0.999 quantile at 7 degrees of freedom


def exact(logits, temperature, top_k, top_p):
    """Probabilities by the definition, one token at a time."""
    weights = torch.exp(logits.double() / temperature).tolist()
    order = sorted(range(len(weights)), key=lambda i: -weights[i])[: top_k or None]
    total, kept, mass = sum(weights[i] for i in order), [], 0.0
    for index in order:
        if mass >= top_p:
            break
        kept.append(index)
        mass += weights[index] / total
    probabilities = torch.zeros(len(weights), dtype=torch.float64)
    for index in kept:
        probabilities[index] = weights[index] / sum(weights[i] for i in kept)
    return probabilities


def test_a_row_that_ends_by_its_text_is_finished_and_changes_no_other():
    """Its tokens are those that it has without, up to there."""
    model = tiny_model()
    whole = sample_batch(model, requests(), decoding())
    token = whole[4].token_ids[6]
    ended = sample_batch(model, requests(), decoding(ends=lambda ids: ids[-1] == token))
    for before, after in zip(whole, ended):
        ids = before.token_ids
        assert after.token_ids == (ids[: ids.index(token) + 1] if token in ids else ids)
    assert sum(len(c.token_ids) for c in ended) < sum(len(c.token_ids) for c in whole)
