"""Trap 10 on real parts: NeMo's data set and collate, Megatron's model and NeMo's loss, on a CPU.

The packed attention kernel (THD) is the one part that needs a GPU; here its boundaries are a mask.
The same check runs there before the first step (nemo_cot.training.nemo_aligner.aligner_sft).
"""

from __future__ import annotations

import itertools

import pytest

from nemo_cot.packing import pack
from nemo_cot.training.nemo_aligner.packed_file import packed_lengths, write_packed_file
from nemo_cot.training.nemo_aligner.parity import check_parity, packing_parity, sequences_of, trained_tokens
from tests.contract.megatron_cpu import tiny_gpt

VOCABULARY = 512


@pytest.fixture
def model(one_rank, monkeypatch):
    return tiny_gpt(monkeypatch, vocabulary=VOCABULARY)


@pytest.fixture
def dataset(tmp_path, traces, layout, base_tokenizer, build_dataset):
    packs = pack(packed_lengths(traces, layout), layout.capacity_tokens, strategy="optimal")
    write_packed_file(tmp_path / "train.npy", packs, traces, layout, packs_per_step=1)
    return build_dataset(tmp_path / "train.npy", base_tokenizer)


def loss(model, dataset, item, *, trap=None):
    """NeMo's loss of one collated pack."""
    import torch
    from nemo.collections.nlp.models.language_modeling.megatron_gpt_model import MegatronGPTModel

    batch = dataset.collate_fn([item])
    width = batch["tokens"].shape[1]
    hidden = torch.triu(torch.ones(width, width), 1).bool()
    if trap != "attention":
        ends = batch["cu_seqlens"][0].tolist()
        for start, end in itertools.pairwise(ends[: ends.index(-1)]):
            hidden[end:, start:end] = True
    with torch.no_grad():
        losses = model(batch["tokens"], batch["position_ids"], hidden[None, None], labels=batch["labels"])
    mask = batch["loss_mask"]
    trained = mask.sum() if trap != "count" else torch.tensor(float(batch["token_count"][0]))
    return float(MegatronGPTModel.loss_func(None, mask, trained, losses))


def several(dataset):
    return next(i for i in map(dataset.__getitem__, range(len(dataset))) if len(i["seq_boundaries"]) > 2)


def test_a_pack_loses_what_its_sequences_do(model, dataset):
    item = several(dataset)
    assert sum(trained_tokens(part) for part in sequences_of(item)) == trained_tokens(item) > 50
    found = packing_parity(item, lambda part: loss(model, dataset, part))
    assert found.gap < 1e-4 and found.packed > 1
    check_parity(found)


@pytest.mark.parametrize("trap", ["attention", "count"])
def test_trap_over_the_boundaries_or_with_the_wrong_count_it_stops(trap, model, dataset):
    def trapped(part):
        whole = len(part["seq_boundaries"]) > 2
        return loss(model, dataset, part, trap=trap if whole else None)

    with pytest.raises(RuntimeError, match="packing changes the loss"):
        check_parity(packing_parity(several(dataset), trapped))
