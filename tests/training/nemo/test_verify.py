"""Each rule of the check of a packed file, broken one at a time."""

from __future__ import annotations

import numpy as np
import pytest

from nemo_cot.errors import UserError
from nemo_cot.training.nemo_aligner.packed_file import Layout, Tokens, write_packed_file
from nemo_cot.training.nemo_aligner.verify import verify_packed_file

EOS, END = 0, 2
LAYOUT = Layout(capacity_tokens=16, eos_id=EOS, end_of_turn_id=END)
TRACES = [Tokens(np.array([11, 12, 13, END]), 2), Tokens(np.array([21, 22, END]), 1)]


def save(path, ids, mask):
    good = {"input_ids": [11, 12, END], "loss_mask": [0, 1, 1], "seq_start_id": [0]}
    bad = {"input_ids": [*good["input_ids"], *ids], "loss_mask": [0, 1, 1, *mask], "seq_start_id": [0, 3]}
    np.save(path, np.array([good, bad], dtype=object))


@pytest.mark.parametrize("context_parallel_size", [1, 2])
def test_what_the_writer_writes_passes(tmp_path, context_parallel_size):
    layout = LAYOUT._replace(context_parallel_size=context_parallel_size)
    path, weights = tmp_path / "x.npy", [[3, 2], [1]]
    write_packed_file(path, [[0, 1], [1]], TRACES, layout, packs_per_step=2, weights=weights)
    verify_packed_file(path, layout)


@pytest.mark.parametrize(
    ("ids", "mask", "says"),
    [
        ([5, 6, END], [0, 1, 0], "never trains its end-of-turn token"),
        ([5, 6, END], [1, 1, 1], "trains its first token"),
        ([5, EOS, 6, END], [0, 0, 1, 1], r"holds the tokenizer's eos \(0\) inside"),
        ([5, 6, 7], [0, 1, 1], "ends in token 7"),
        ([5, 6, END, EOS], [0, 1, 1, 0], "1 of them padding"),
        ([5, 6, 7, END], [0, 2, 3, 3], "is drawn 2 times by one token of its mask, 3 times by another"),
        ([5, 6, *[7] * 20, END], [0, *[1] * 22], "has 24 inputs, over the capacity 16"),
    ],
)
def test_each_broken_rule_is_named_with_its_place(tmp_path, ids, mask, says):
    save(tmp_path / "x.npy", ids, mask)
    with pytest.raises(UserError, match=rf"pack 1.*{says}"):
        verify_packed_file(tmp_path / "x.npy", LAYOUT)


def test_a_pack_that_trains_nothing_is_refused(tmp_path):
    row = {"input_ids": [5, 6, END], "loss_mask": [0, 1, 1], "seq_start_id": [0]}
    np.save(tmp_path / "x.npy", np.array([row, row | {"loss_mask": [0, 0, 0]}], dtype=object))
    with pytest.raises(UserError, match="pack 1: trains nothing"):
        verify_packed_file(tmp_path / "x.npy", LAYOUT)


@pytest.mark.parametrize(
    ("ids", "mask", "says"),
    [
        ([5, 6, END, EOS, EOS], [0, 1, 1, 1, 0], "has trained padding"),
        ([5, 6, END], [0, 1, 1], "has 2 inputs, 0 of them padding; multiple: 4"),
    ],
)
def test_rules_of_padding_for_context_parallelism(tmp_path, ids, mask, says):
    np.save(tmp_path / "x.npy", np.array([{"input_ids": ids, "loss_mask": mask, "seq_start_id": [0]}] * 2))
    with pytest.raises(UserError, match=says):
        verify_packed_file(tmp_path / "x.npy", LAYOUT._replace(context_parallel_size=2))
