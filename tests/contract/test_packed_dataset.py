"""Our packed file through NeMo 2.1's dataset, loader and collate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nemo_cot.errors import UserError
from nemo_cot.packing import distinct_packs, literal_draws, literal_packs, pack
from nemo_cot.training.nemo_aligner.convention import check_convention
from nemo_cot.training.nemo_aligner.loss_weights import aligner_token_weights
from nemo_cot.training.nemo_aligner.packed_file import packed_lengths, write_packed_file
from tests.contract.contract_data import END_OF_TURN, PROBLEMS, trained_texts


@pytest.fixture
def packs(traces, layout):
    return pack(packed_lengths(traces, layout), layout.capacity_tokens, strategy="optimal")


@pytest.fixture
def path(tmp_path, traces, layout, packs):
    write_packed_file(tmp_path / "train.npy", packs, traces, layout, packs_per_step=1)
    return tmp_path / "train.npy"


def test_trained_tokens_are_the_answer_and_the_end_of_turn(
    path, packs, traces, base_tokenizer, build_dataset, build_loader
):
    dataset = build_dataset(path, base_tokenizer)
    loader = build_loader(dataset, global_batch_size=1, use_random_sampler=False)
    batches = list(loader)
    assert len(batches) == len(packs)
    assert max(map(len, packs)) > 1
    for batch, members in zip(batches, packs):
        assert trained_texts(batch, base_tokenizer) == [PROBLEMS[i][1] + END_OF_TURN for i in members]
        lengths = [len(traces[i].ids) - 1 for i in members]
        assert batch["token_count"] == [sum(lengths)]
        inputs = np.concatenate([traces[i].ids[:-1] for i in members])
        assert batch["tokens"][0, : sum(lengths)].tolist() == inputs.tolist()
        expected = np.concatenate([np.arange(length) for length in lengths])
        assert batch["position_ids"][0, : sum(lengths)].tolist() == expected.tolist()


def test_boundaries_are_those_of_the_sequences_with_the_padding_last(
    path, packs, traces, base_tokenizer, build_dataset
):
    dataset = build_dataset(path, base_tokenizer)
    for number, members in enumerate(packs):
        batch = dataset.collate_fn([dataset[number]])
        ends = np.cumsum([0] + [len(traces[i].ids) - 1 for i in members]).tolist()
        width = -(-ends[-1] // 16) * 16
        padded = ends if ends[-1] == width else [*ends, width]
        unpadded = ends if ends[-1] == width else [*ends, ends[-1]]
        assert batch["tokens"].shape == (1, width)
        assert batch["cu_seqlens"][0].tolist() == [*padded, -1]
        assert batch["cu_seqlens_unpadded"][0].tolist() == [*unpadded, -1]
        eos = batch["tokens"][0] == base_tokenizer.eos_id
        assert eos.nonzero().flatten().tolist() == list(range(ends[-1], width))


@pytest.mark.parametrize(
    ("model", "multiple"),
    [
        ({"tensor_model_parallel_size": 4, "sequence_parallel": True}, 32),
        ({"tensor_model_parallel_size": 8}, 16),
    ],
)
def test_the_batch_is_as_wide_as_sequence_parallelism_needs(
    path, base_tokenizer, build_dataset, model, multiple
):
    dataset = build_dataset(path, base_tokenizer, model=model)
    batch = dataset.collate_fn([dataset[0]])
    assert batch["tokens"].shape[1] % multiple == 0
    assert batch["tokens"].shape[1] - batch["token_count"][0] < multiple


def test_context_parallelism_gets_equal_slices_of_every_sequence(
    tmp_path, traces, layout, base_tokenizer, build_dataset
):
    layout = layout._replace(context_parallel_size=2)
    packs = pack(packed_lengths(traces, layout), layout.capacity_tokens)
    write_packed_file(tmp_path / "cp.npy", packs, traces, layout, packs_per_step=1)
    dataset = build_dataset(tmp_path / "cp.npy", base_tokenizer, model={"context_parallel_size": 2})
    for number, members in enumerate(packs):
        batch = dataset.collate_fn([dataset[number]])
        ends, unpadded = (batch[key][0].tolist() for key in ("cu_seqlens", "cu_seqlens_unpadded"))
        assert all(end % 4 == 0 for end in ends[:-1])
        real = np.diff(unpadded[: len(members) + 1])
        # NeMo may count the last token and one of padding as real inputs; they train nothing.
        assert all(0 <= extra <= 2 for extra in real - [len(traces[i].ids) - 1 for i in members])
        assert trained_texts(batch, base_tokenizer) == [PROBLEMS[i][1] + END_OF_TURN for i in members]


def test_max_seq_length_below_a_pack_is_refused_before_nemo_s_bare_assertion(
    path, base_tokenizer, build_dataset
):
    longest = check_convention(path).longest_pack_tokens
    dataset = build_dataset(path, base_tokenizer, max_seq_length=longest - 1)
    with pytest.raises(AssertionError):
        [dataset.collate_fn([dataset[i]]) for i in range(len(dataset))]
    with pytest.raises(UserError, match="longest pack has"):
        check_convention(path, max_seq_length=longest - 1)
    dataset = build_dataset(path, base_tokenizer, max_seq_length=longest)
    assert all(dataset.collate_fn([dataset[i]])["tokens"].shape[1] <= longest for i in range(len(dataset)))


def weights_by_token(path, tokenizer, build_dataset, packs_per_step: int) -> list[dict]:
    """For each step: how often each trained (history of its sequence, label) is drawn."""
    dataset = build_dataset(path, tokenizer)
    steps = []
    for first in range(0, len(dataset), packs_per_step):
        totals: dict = {}
        for number in range(first, first + packs_per_step):
            batch = dataset.collate_fn([dataset[number]])
            ends = [end for end in batch["cu_seqlens"][0].tolist() if end >= 0]
            for start, end in itertools.pairwise(ends):
                tokens = batch["tokens"][0, start:end].tolist()
                for place in batch["loss_mask"][0, start:end].nonzero().flatten().tolist():
                    key = (tuple(tokens[: place + 1]), batch["labels"][0, start + place].item())
                    totals[key] = totals.get(key, 0) + batch["loss_mask"][0, start + place].item()
        steps.append(totals)
    return steps


def test_literal_and_distinct_files_give_every_token_the_same_weight(
    tmp_path, traces, layout, base_tokenizer, build_dataset
):
    draws = literal_draws(len(traces), 3, 60, seed=4)
    lengths = packed_lengths(traces, layout)
    weights = []
    for name, make in (("literal", literal_packs), ("distinct", distinct_packs)):
        packs, drawn, per_step = make(draws, lengths, layout.capacity_tokens)
        file = tmp_path / f"{name}.npy"
        write_packed_file(file, packs, traces, layout, packs_per_step=per_step, weights=drawn)
        weights.append(weights_by_token(file, base_tokenizer, build_dataset, per_step))
    literal, distinct = weights
    assert literal == distinct
    assert sum(literal[0].values()) == sum(len(traces[i].ids) - traces[i].answer_start for i in draws[0])


def test_the_real_loss_weighs_tokens_as_we_report(
    one_rank, tmp_path, traces, layout, base_tokenizer, build_dataset
):
    import torch
    from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel

    draws = literal_draws(len(traces), 1, 60, seed=4)
    packs, drawn, per_step = distinct_packs(draws, packed_lengths(traces, layout), layout.capacity_tokens)
    write_packed_file(tmp_path / "x.npy", packs, traces, layout, packs_per_step=per_step, weights=drawn)
    dataset = build_dataset(tmp_path / "x.npy", base_tokenizer)
    trained = [len(trace.ids) - trace.answer_start for trace in traces]
    expected = aligner_token_weights(packs, drawn, trained)
    for number, members in enumerate(packs):
        batch = dataset.collate_fn([dataset[number]])
        losses = torch.zeros_like(batch["labels"], dtype=torch.float32, requires_grad=True)
        mask = batch["loss_mask"]
        (MegatronGPTModel.loss_func(None, mask, mask.sum(), losses) / per_step).backward()
        ends = batch["cu_seqlens"][0].tolist()
        for place, index in enumerate(members):
            span = slice(ends[place], ends[place + 1])
            got = losses.grad[0, span][mask[0, span] > 0]
            assert got.tolist() == pytest.approx([expected[index]] * trained[index])


def test_without_answer_only_loss_nemo_ignores_the_mask(path, base_tokenizer, build_dataset):
    # Not a setting we render: shows why model.answer_only_loss must stay true.
    dataset = build_dataset(path, base_tokenizer, answer_only_loss=False)
    texts = trained_texts(dataset.collate_fn([dataset[0]]), base_tokenizer)
    assert all("<|im_start|>assistant" in text for text in texts)
