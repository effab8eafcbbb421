"""Samplers and steps: 50 of them at a global batch of 1,024, on the packs that we meant."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nemo_cot.packing import literal_draws, literal_packs
from nemo_cot.training.nemo_aligner.packed_file import packed_lengths, write_packed_file

STEPS, BATCH = 50, 1024


@pytest.fixture
def dataset_of_20(tmp_path, traces, layout, base_tokenizer, build_dataset):
    """20 packs of one trace each, drawn as often as asked for."""
    path = tmp_path / "twenty.npy"
    members = [[i % len(traces)] for i in range(20)]
    write_packed_file(path, members, traces, layout, packs_per_step=20)
    return lambda num_samples: build_dataset(path, base_tokenizer, num_samples=num_samples)


@pytest.fixture
def ranks(monkeypatch):
    """Give the loader another data-parallel rank than the one that this process is."""

    def set_rank(rank: int, size: int) -> None:
        from nemo_aligner.data.nlp import builders

        monkeypatch.setattr(builders.parallel_state, "get_data_parallel_rank", lambda: rank)
        monkeypatch.setattr(builders.parallel_state, "get_data_parallel_world_size", lambda: size)

    return set_rank


def steps_of(loader) -> int:
    from nemo_aligner.utils.trainer_utils import compute_num_steps_per_epoch

    return compute_num_steps_per_epoch(loader.batch_sampler)


@pytest.mark.parametrize("random", [True, False])
def test_sampling_gives_exactly_50_steps(dataset_of_20, build_loader, random):
    dataset = dataset_of_20(STEPS * BATCH)
    assert len(dataset) == 51_200
    loader = build_loader(dataset, global_batch_size=BATCH, use_random_sampler=random)
    assert steps_of(loader) == len(loader.batch_sampler) == STEPS
    batches = list(loader.batch_sampler)
    assert [len(batch) for batch in batches] == [BATCH] * STEPS
    assert sorted(itertools.chain.from_iterable(batches)) == list(range(51_200))
    drawn = np.array([np.bincount(dataset.samples_mapping[batch], minlength=20) for batch in batches])
    assert (drawn.sum(axis=0) == 2560).all()
    # The random sampler mixes the epochs: a step draws a trace 51 times give or take 20. Only
    # the sequential one keeps the epochs of the data set, as our literal draws do.
    assert (drawn.max() > 60) == random
    assert (np.ptp(drawn) <= 3) != random


def test_trap_without_sampling_20_packs_make_no_step_of_1024(dataset_of_20, build_loader):
    loader = build_loader(dataset_of_20(None), global_batch_size=BATCH)
    assert steps_of(loader) == 0
    with pytest.raises(ZeroDivisionError):
        len(loader.batch_sampler)
    with pytest.raises(ZeroDivisionError):
        next(iter(loader.batch_sampler))
    sequential = build_loader(dataset_of_20(None), global_batch_size=BATCH, use_random_sampler=False)
    assert list(sequential.batch_sampler) == []  # no error at all: it trains nothing


@pytest.mark.parametrize("size", [1, 2, 8])
def test_literal_packs_reach_their_own_step_on_every_rank(
    tmp_path, traces, layout, base_tokenizer, build_dataset, build_loader, ranks, size
):
    draws = literal_draws(len(traces), 5, 60, seed=3)
    batch = literal_packs(draws, packed_lengths(traces, layout), layout.capacity_tokens, multiple_of=size)
    path = tmp_path / "literal.npy"
    write_packed_file(path, batch.packs, traces, layout, packs_per_step=batch.packs_per_step)
    seen = []
    for rank in range(size):
        ranks(rank, size)
        loader = build_loader(
            build_dataset(path, base_tokenizer),
            global_batch_size=batch.packs_per_step, use_random_sampler=False,
        )  # fmt: skip
        assert steps_of(loader) == 5
        seen.append(list(loader.batch_sampler))
    for step in range(5):
        numbers = sorted(itertools.chain.from_iterable(rank[step] for rank in seen))
        first = step * batch.packs_per_step
        assert numbers == list(range(first, first + batch.packs_per_step))
        drawn = sorted(itertools.chain.from_iterable(batch.packs[number] for number in numbers))
        assert drawn == sorted(draws[step].tolist())


def test_trap_the_random_sampler_takes_literal_packs_out_of_their_steps(
    tmp_path, traces, layout, base_tokenizer, build_dataset, build_loader
):
    draws = literal_draws(len(traces), 5, 60, seed=3)
    batch = literal_packs(draws, packed_lengths(traces, layout), layout.capacity_tokens)
    path = tmp_path / "literal.npy"
    write_packed_file(path, batch.packs, traces, layout, packs_per_step=batch.packs_per_step)
    loader = build_loader(build_dataset(path, base_tokenizer), global_batch_size=batch.packs_per_step)
    steps = list(loader.batch_sampler)
    assert len(steps) == 5
    assert sorted(steps[0]) != list(range(batch.packs_per_step))


def test_trap_a_global_batch_that_the_ranks_do_not_divide(dataset_of_20, build_loader, ranks):
    ranks(0, 8)
    with pytest.raises(RuntimeError, match=r"not divisible by .*micro_batch_size \(1\) x data_parallel_size"):
        build_loader(dataset_of_20(BATCH), global_batch_size=1020)


def test_trap_keeping_the_last_batch_with_several_ranks(dataset_of_20, build_loader, ranks):
    ranks(0, 2)
    with pytest.raises(RuntimeError, match="does not support drop_last=False"):
        build_loader(dataset_of_20(BATCH), global_batch_size=BATCH, drop_last=False)


def test_checkpoints_fall_on_their_steps():
    from nemo_aligner.utils.trainer_utils import check_progress

    saved = [step for step in range(1, 51) if check_progress(step, 50, 10, 20, 1)[1]]
    assert saved == [20, 40, 50]
    assert [step for step in range(1, 51) if check_progress(step, 50, 0, 0, 0)[1]] == []


def test_trap_a_save_interval_between_validations():
    from nemo_aligner.utils.trainer_utils import check_progress

    with pytest.raises(AssertionError, match="must be divisible by"):
        check_progress(1, 50, val_check_interval=20, save_interval=25, limit_val_batches=1)
