"""The mask conventions that cost real runs: each trap sprung in NeMo 2.1, and refused by us."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from nemo_cot.errors import UserError
from nemo_cot.packing import pack
from nemo_cot.training.nemo_aligner.packed_file import Layout, packed_lengths, write_packed_file
from nemo_cot.training.nemo_aligner.verify import verify_packed_file
from tests.contract.contract_data import END_OF_TEXT, END_OF_TURN, PROBLEMS, PROMPT, trained_texts

ANSWERS = [answer for _, answer in PROBLEMS]


def packed_by_nemo(path, tokenizer, *, add_eos: bool, ending: str) -> list[dict]:
    """NeMo 2.1's own way: its dataset tokenizes a .jsonl, its packer packs. Saves to ``path``."""
    from nemo.collections.nlp.data.language_modeling.megatron.gpt_sft_dataset import GPTSFTDataset
    from nemo.utils.sequence_packing_utils import (
        create_hist,
        create_packing_strategy,
        fill_packing_strategy,
    )

    rows = [{"input": PROMPT.format(problem=p), "output": a + ending} for p, a in PROBLEMS]
    source = path.with_suffix(".jsonl")
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = GPTSFTDataset(
        file_path=str(source), tokenizer=tokenizer, max_seq_length=128, add_eos=add_eos,
        label_key="output", truncation_field="input", prompt_template="{input}{output}", memmap_workers=1,
    )  # fmt: skip
    examples = np.array([dataset[i] for i in range(len(rows))], dtype=object)
    sequences, histogram = create_hist(examples, 128)
    bins = create_packing_strategy(histogram, 128, "first_fit_decreasing")
    packs = fill_packing_strategy(bins, sequences, 128, tokenizer.eos_id)
    np.save(path, np.array(packs, dtype=object))
    return packs


def all_trained(path, tokenizer, build_dataset) -> list[str]:
    dataset = build_dataset(path, tokenizer)
    batches = [dataset.collate_fn([dataset[i]]) for i in range(len(dataset))]
    return sorted(text for batch in batches for text in trained_texts(batch, tokenizer))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train.npy"


def test_nemo_s_packer_with_a_literal_end_of_turn_trains_on_it(path, base_tokenizer, layout, build_dataset):
    packed_by_nemo(path, base_tokenizer, add_eos=False, ending=END_OF_TURN)
    assert all_trained(path, base_tokenizer, build_dataset) == sorted(a + END_OF_TURN for a in ANSWERS)
    verify_packed_file(path, layout)


def test_our_file_trains_on_the_same_text_as_nemo_s(path, traces, base_tokenizer, layout, build_dataset):
    packs = pack(packed_lengths(traces, layout), layout.capacity_tokens)
    write_packed_file(path, packs, traces, layout, packs_per_step=1)
    ours = all_trained(path, base_tokenizer, build_dataset)
    packed_by_nemo(path, base_tokenizer, add_eos=False, ending=END_OF_TURN)
    assert ours == all_trained(path, base_tokenizer, build_dataset)


def test_trap_add_eos_the_end_token_is_in_the_file_and_never_trained(
    path, base_tokenizer, layout, build_dataset
):
    packed_by_nemo(path, base_tokenizer, add_eos=True, ending="")
    assert all_trained(path, base_tokenizer, build_dataset) == sorted(ANSWERS)
    with pytest.raises(UserError, match="padding; multiple: 1"):
        verify_packed_file(path, layout)


def test_trap_instruct_eos_the_end_of_turn_is_masked_and_cuts_the_sequence(
    path, instruct_tokenizer, layout, traces, build_dataset
):
    packs = packed_by_nemo(path, instruct_tokenizer, add_eos=False, ending=END_OF_TURN)
    assert all_trained(path, instruct_tokenizer, build_dataset) == sorted(ANSWERS)
    dataset = build_dataset(path, instruct_tokenizer)
    batch = dataset.collate_fn([dataset[0]])
    padded, unpadded = (batch[key][0].tolist() for key in ("cu_seqlens", "cu_seqlens_unpadded"))
    first_end = packs[0]["input_ids"].index(instruct_tokenizer.eos_id)
    assert unpadded[1] == first_end + 1 < padded[1]  # cut behind the prompt's first <|im_end|>
    trap = layout._replace(eos_id=instruct_tokenizer.eos_id)
    with pytest.raises(UserError):
        verify_packed_file(path, trap)
    with pytest.raises(UserError, match="eos is the end-of-turn token"):
        write_packed_file(path, [[0]], traces, trap, packs_per_step=1)


def test_trap_an_eos_in_the_text_cuts_the_sequence(path, base_tokenizer, layout, traces, build_dataset):
    ids = traces[0].ids.copy()
    ids[-3] = base_tokenizer.eos_id
    mask = (np.arange(len(ids)) >= traces[0].answer_start).tolist()
    np.save(path, np.array([{"input_ids": ids.tolist(), "loss_mask": mask, "seq_start_id": [0]}] * 2))
    dataset = build_dataset(path, base_tokenizer)
    batch = dataset.collate_fn([dataset[0]])
    assert batch["cu_seqlens_unpadded"][0, 1] == len(ids) - 2 < len(ids) - 1
    with pytest.raises(UserError, match="inside"):
        verify_packed_file(path, layout)
    with pytest.raises(UserError, match="is the tokenizer's eos"):
        write_packed_file(path, [[0]], [traces[0]._replace(ids=ids)], layout, packs_per_step=1)


def test_trap_a_mask_of_nemo_2_3_trains_the_prompt_s_end_and_not_the_answer_s(
    path, traces, layout, base_tokenizer, build_dataset
):
    rows = []
    for trace in traces:
        mask = np.arange(len(trace.ids)) >= trace.answer_start - 1  # 2.3: i stands for label i + 1
        mask[-1] = False
        rows.append({"input_ids": trace.ids.tolist(), "loss_mask": mask.tolist(), "seq_start_id": [0]})
    np.save(path, np.array(rows, dtype=object))
    assert all_trained(path, base_tokenizer, build_dataset) == sorted("\n" + a for a in ANSWERS)
    with pytest.raises(UserError, match="never trains its end-of-turn token"):
        verify_packed_file(path, layout)


def test_chat_datasets_cannot_be_packed(path, base_tokenizer):
    from nemo_aligner.data.nlp.builders import build_sft_dataset

    with pytest.raises(AssertionError, match="not supported with chat"):
        build_sft_dataset({"packed_sequence": True}, base_tokenizer, None, is_chat=True)


def test_packing_needs_a_micro_batch_of_one(path, traces, layout, base_tokenizer, build_dataset):
    write_packed_file(path, [[0]], traces, layout, packs_per_step=1)
    with pytest.raises(AssertionError, match="Micro batch size must be 1"):
        build_dataset(path, base_tokenizer, micro_batch_size=2)


def test_a_sequence_over_the_pack_size_is_a_bare_key_error_in_nemo_and_named_by_us(traces, layout):
    from nemo.utils.sequence_packing_utils import create_hist

    lengths = packed_lengths(traces, layout)
    longest = int(lengths.argmax())
    short = Layout(int(lengths.max()) - 1, layout.eos_id, layout.end_of_turn_id)
    with pytest.raises((KeyError, IndexError)):
        create_hist([{"input_ids": trace.ids.tolist()} for trace in traces], short.capacity_tokens)
    with pytest.raises(UserError, match=f"sequence {longest} has length {lengths[longest]}, over"):
        pack(lengths, short.capacity_tokens)


def test_the_tokenizers_differ_in_eos_alone(base_tokenizer, instruct_tokenizer):
    assert base_tokenizer.eos_id == base_tokenizer.token_to_id(END_OF_TEXT)
    assert instruct_tokenizer.eos_id == base_tokenizer.token_to_id(END_OF_TURN)
    assert SimpleNamespace(**base_tokenizer.tokenizer.get_vocab()) == SimpleNamespace(
        **instruct_tokenizer.tokenizer.get_vocab()
    )
