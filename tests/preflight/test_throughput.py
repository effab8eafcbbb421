"""The simulation of servers: against limits computed by hand, and against the table of an independent one."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.config.gpus import A100, H100, H200, gpu_of
from nemo_cot.experiment.compose import load_config
from nemo_cot.preflight import throughput as t
from nemo_cot.preflight.throughput import Lengths, Requests, ServerLayout, measured, simulate

QWEN_32B = load_config(["model=qwen2.5_32b", "model.path=/x"]).model.shape
WEIGHTS = 2 * QWEN_32B.parameters


def fixed(tokens: int, prompt: int = 0) -> Lengths:
    """All answers of one length."""
    return Lengths(prompt, (tokens,) * 8)


def test_one_answer_at_a_time_reads_all_weights_for_each_token(monkeypatch):
    for name in ("STEP_SECONDS", "SEQUENCE_SECONDS", "ALL_REDUCE_SECONDS"):
        monkeypatch.setattr(t, name, 0.0)
    found = simulate(QWEN_32B, ServerLayout(1, 1, H200), fixed(100), Requests(1, 3, 1, 1), seeded=False)
    read = WEIGHTS / (t.BANDWIDTH_SHARE * H200.bytes_per_second)
    assert found.tokens == 300 and found.in_flight == pytest.approx(1.0)
    assert found.seconds == pytest.approx(300 * read, rel=1e-3)


def test_a_batch_shares_the_weights_and_reads_its_own_keys_and_values():
    token = 2 * 2 * 64 * 1024  # keys and values, bytes, layers, width
    assert t.token_bytes(QWEN_32B) == token
    one, two = (ServerLayout(1, 1).step_seconds(QWEN_32B, 1, cached, seeded=False) for cached in (0, 10_000))
    assert two - one == pytest.approx(10_000 * token / (t.BANDWIDTH_SHARE * H100.bytes_per_second))
    wide = ServerLayout(16, 1).step_seconds(QWEN_32B, 1, 10_000, seeded=False)
    narrow = ServerLayout(16, 1).step_seconds(QWEN_32B, 1, 0, seeded=False)
    assert wide - narrow == pytest.approx((two - one) / 8), "8 key-value heads are repeated on 16 GPUs"


def test_short_answers_in_large_batches_are_bound_by_operations():
    layout = ServerLayout(8, 1)
    small, large = (layout.step_seconds(QWEN_32B, batch, 0, seeded=False) for batch in (10**5, 10**5 + 1))
    compute = 2 * QWEN_32B.parameters / (8 * t.FLOPS_SHARE * H100.bf16_flops)
    sent = 2 * 5120 * 2 * 7 / 8 / H100.link_bytes_per_second * 2 * 64
    assert large - small == pytest.approx(compute + sent + t.SEQUENCE_SECONDS, rel=1e-6)


def test_the_cache_is_what_the_weights_leave():
    free = 4 * (H100.memory_bytes * 0.9 - t.WORKSPACE_BYTES) - WEIGHTS
    assert ServerLayout(4, 2).cache_tokens(QWEN_32B) == pytest.approx(free / t.token_bytes(QWEN_32B))
    with pytest.raises(ValueError, match="do not fit 1 GPU of 80 GiB"):
        ServerLayout(1, 8).cache_tokens(dataclasses.replace(QWEN_32B, layers=128))


def test_no_more_answers_are_decoded_than_the_cache_holds():
    layout, length = ServerLayout(2, 1), 8000
    room = layout.cache_tokens(QWEN_32B)
    found = simulate(QWEN_32B, layout, fixed(length), Requests(1, 200, 1, 200), seeded=False)
    assert found.tokens == 200 * length, "those that are thrown out go on where they were"
    assert 0.8 * room / length < found.in_flight < 2.2 * room / length, "half of its length each, on the average"
    assert found.preempted > 0
    with pytest.raises(ValueError, match="no room for one answer"):
        simulate(QWEN_32B, layout, fixed(int(room) + 10), Requests(1, 1, 1, 1), seeded=False)


def test_a_group_waits_for_its_longest_answer():
    """A seed of NeMo-Skills: few problems, so that most of its slots are empty at its end."""
    lengths = Lengths(0, (100, 100, 100, 1000))
    one = simulate(QWEN_32B, ServerLayout(8, 1), lengths, Requests(8, 4, 1, 4), seeded=False)
    two = simulate(QWEN_32B, ServerLayout(8, 1), lengths, Requests(8, 4, 2, 4), seeded=False)
    assert one.tokens == two.tokens == 8 * 1300
    assert one.in_flight < 2 and two.in_flight > 1.5 * one.in_flight and two.seconds < 0.7 * one.seconds
    late = simulate(QWEN_32B, ServerLayout(8, 1), lengths, Requests(8, 4, 1, 4, 10.0), seeded=False)
    assert late.seconds == pytest.approx(one.seconds + 8 * 10, rel=0.02)


def test_seeds_cost_and_scheduling_ahead_saves():
    layout, requests = ServerLayout(8, 1), Requests(1, 400, 1, 200)
    plain = simulate(QWEN_32B, layout, fixed(1000), requests, seeded=False)
    seeded = simulate(QWEN_32B, layout, fixed(1000), requests, seeded=True)
    ahead = simulate(QWEN_32B, dataclasses.replace(layout, overlapped=True), fixed(1000), requests, seeded=False)
    assert ahead.seconds < plain.seconds < seeded.seconds
    assert seeded.seconds - plain.seconds == pytest.approx(2000 * 200 * t.SEEDED_SECONDS, rel=0.01)


@pytest.mark.parametrize("tensor, copies, mean, problems, samples, chunks, parallel, seeded, rate, hours", [
    (8, 1, 4096, 50, 512, 16, 16, True, 7600, 43),
    (4, 2, 4096, 50, 512, 4, 32, False, 12200, 22),
    (4, 2, 4096, 50, 512, 4, 32, True, None, 26),
    (8, 1, 7680, 256, 64, 1, 16, True, 7100, 41),
    (4, 2, 7680, 256, 64, 1, 16, False, 8900, 33),
])  # fmt: skip
def test_an_independent_simulation_is_met_within_a_third(
    tensor, copies, mean, problems, samples, chunks, parallel, seeded, rate, hours
):
    """Of 25,600 answers of 4K tokens and 16,384 of 7.5K by Qwen2.5-32B on 8 H100."""
    layout, lengths = ServerLayout(tensor, copies), Lengths.log_normal(150, mean, 16384)
    requests = Requests(samples // chunks, problems, parallel, 64, 10.0)
    found = simulate(QWEN_32B, layout, lengths, requests, seeded=seeded)
    assert rate is None or found.tokens_per_second == pytest.approx(rate, rel=0.15)
    own = chunks * (found.seconds + layout.start_seconds(QWEN_32B)) * layout.num_gpus / 3600
    assert own == pytest.approx(hours, rel=0.15)
    if (chunks, parallel) == (16, 16):
        assert 200 < found.in_flight < 350, "of 800 that could be"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 16384))
def test_lengths_have_the_mean_that_is_asked_for_and_none_exceeds_the_cap(mean, cap):
    lengths = Lengths.log_normal(10, min(mean, 0.95 * cap), cap)
    assert min(lengths.quantiles) >= 1 and max(lengths.quantiles) <= cap
    assert lengths.mean == pytest.approx(min(mean, 0.95 * cap), rel=0.02, abs=1)


def test_lengths_of_answers_that_are_there():
    found = measured(5, [10, 1000, 10, 10])
    assert found and found.mean == pytest.approx(257.5) and set(found.quantiles) == {10, 1000}
    assert measured(5, []) is None
    draws = found.draw()
    first = [next(draws) for _ in range(len(found.quantiles))]
    assert sorted(first) == sorted(found.quantiles) and first != sorted(first)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 12), st.integers(1, 4), st.integers(1, 12), st.sampled_from([(8, 1), (4, 2), (2, 4)])
)
def test_every_answer_is_drawn_whole(groups, each, together, in_flight, sizes):
    lengths = fixed(700, prompt=20)
    found = simulate(QWEN_32B, ServerLayout(*sizes), lengths, Requests(groups, each, together, in_flight), seeded=False)
    assert found.tokens == groups * each * 700
    assert 0 < found.in_flight <= together * in_flight + 1e-6 and found.seconds > 0


def test_a_gpu_is_known_by_what_slurm_calls_it():
    names = {None: H100, "h100": H100, "H200": H200, "a100-sxm4-80gb": A100, "something": H100}
    assert all(gpu_of(name) == gpu for name, gpu in names.items())
