"""The packed file: what is written, what is refused, and that reading it runs no code."""

from __future__ import annotations

import json
import pickletools
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_cot.errors import UserError
from nemo_cot.training.nemo_aligner.convention import check_convention, read_convention, sidecar_path
from nemo_cot.training.nemo_aligner.packed_file import (
    Layout,
    Tokens,
    packed_lengths,
    read_packed_file,
    write_packed_file,
)
from nemo_cot.training.nemo_aligner.verify import verify_packed_file

EOS, END = 0, 2
LAYOUT = Layout(capacity_tokens=16, eos_id=EOS, end_of_turn_id=END)
TRACES = [
    Tokens(np.array([11, 12, 13, 14, END]), 2),
    Tokens(np.array([21, 22, END]), 1),
    Tokens(np.array([31, 300_000, 33, 34, 35, 36, END]), 4),
]


def write(path, packs=([0, 1], [2]), traces=TRACES, layout=LAYOUT, **named):
    return write_packed_file(path, packs, traces, layout, **{"packs_per_step": 1, **named})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train.npy"


def test_packs_read_back_as_written_by_numpy_too(path):
    write(path)
    loaded = np.load(path, allow_pickle=True)  # what NeMo's loader does
    assert loaded.shape == (2,)
    assert loaded.dtype == object
    for row, read in zip(loaded, read_packed_file(path)):
        assert row["input_ids"].tolist() == read.input_ids.tolist()
        assert row["loss_mask"].tolist() == read.loss_mask.tolist()
        assert row["seq_start_id"] == read.seq_start_id
        assert type(row["seq_start_id"]) is list
    first = read_packed_file(path)[0]
    assert first.input_ids.tolist() == [11, 12, 13, 14, END, 21, 22, END]
    assert first.loss_mask.tolist() == [False, False, True, True, True, False, True, True]
    assert first.seq_start_id == [0, 5]
    assert read_packed_file(path)[1].input_ids[1] == 300_000
    named = {name for opcode, name, _ in pickletools.genops(path.read_bytes()[128:]) if "UNICODE" in opcode.name}
    assert {"numpy", "frombuffer"} <= named, "names that every NumPy can load"
    assert not any("multiarray" in name for name in named)


def test_a_file_of_lists_saved_by_numpy_reads_as_well(path):
    rows = [{"input_ids": [1, 2, 3], "loss_mask": [False, True, True], "seq_start_id": [0]}] * 2
    np.save(path, np.array(rows, dtype=object))
    assert [pack.input_ids.tolist() for pack in read_packed_file(path)] == [[1, 2, 3]] * 2
    np.save(path, np.load(path, allow_pickle=True))
    assert len(read_packed_file(path)) == 2


def test_draw_counts_are_the_mask_and_recurring_packs_are_stored_once(path):
    packs, weights = [[0, 1], [2]] * 50, [[51, 52], [300]] * 50
    once = write(path, packs[:2], weights=weights[:2]).file_bytes
    convention = write(path, packs, weights=weights)
    assert convention.file_bytes < 10 * once
    assert convention.weighting == "distinct"
    packs = read_packed_file(path)
    assert len(packs) == 100
    assert packs[98].loss_mask.tolist() == [0, 0, 51, 51, 51, 0, 52, 52]
    assert packs[99].loss_mask.tolist() == [0, 0, 0, 0, 300, 300, 300]
    assert np.load(path, allow_pickle=True)[99]["loss_mask"].sum() == 900


def test_steps_that_draw_the_same_pack_differently_keep_their_own_counts(path):
    write(path, [[0, 1], [0, 1], [0, 1]], weights=[[51, 52], [52, 51], [51, 52]])
    masks = [pack.loss_mask.tolist() for pack in read_packed_file(path)]
    assert masks == [[0, 0, *[a] * 3, 0, b, b] for a, b in ((51, 52), (52, 51), (51, 52))]


def test_writing_does_not_hold_the_file(path):
    trace = Tokens(np.full(5_000, 7, dtype=np.int32), 10)
    traces = [Tokens(np.append(trace.ids, END), 10)] * 40
    packs = [[i, j] for i in range(40) for j in range(25)]  # all different: 50 MB
    tracemalloc.start()
    size = write(path, packs, traces, Layout(10_000, EOS, END)).file_bytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 45_000_000
    assert peak < 8_000_000


def test_context_parallelism_pads_each_sequence_with_masked_eos(path):
    layout = Layout(16, EOS, END, context_parallel_size=2)
    assert packed_lengths(TRACES, layout).tolist() == [4, 4, 8]
    assert packed_lengths(TRACES, LAYOUT).tolist() == [4, 2, 6]
    convention = write(path, layout=layout)
    assert convention.pad_to_multiple == 4
    (_, (ids, mask)), _ = (pack.sequences() for pack in read_packed_file(path))
    assert ids.tolist() == [21, 22, END, EOS, EOS]
    assert mask.tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("trace", "says"),
    [
        (Tokens(np.array([5, 6, 7]), 1), r"trace 1: ends in token 7, not in the end-of-turn token 2"),
        (Tokens(np.array([5, EOS, END]), 1), r"trace 1: token 1 is the tokenizer's eos \(0\)"),
        (Tokens(np.array([5, 6, END]), 0), r"trace 1: has 3 tokens, answer from 0"),
        (Tokens(np.array([5, 6, END]), 3), r"trace 1: has 3 tokens, answer from 3"),
    ],
)
def test_refuses_traces_that_nemo_would_train_wrongly_on(path, trace, says):
    with pytest.raises(UserError, match=says):
        write(path, [[0, 1]], [TRACES[0], trace])
    assert not path.exists()
    assert not sidecar_path(path).exists()


@pytest.mark.parametrize(
    "ids",
    [
        [5, -6, END],
        [5, 2**31, END],
        [5.5, 6, END],
        [5.0, 6.0, END],
        [[5, 6, END]],
        [[5], [6, END]],
        ["a"],
        [],
    ],
)
def test_refuses_ids_that_int32_would_change(path, ids):
    with pytest.raises(UserError, match="trace 1: its ids are not whole numbers in 0") as refused:
        write(path, [[0, 1]], [TRACES[0], Tokens(ids, 1)])
    assert "\n" not in str(refused.value) and not path.exists()


@pytest.mark.parametrize(
    ("packs", "says"),
    [
        ([[0], [-1]], "pack 1 names trace -1 of 3"),
        ([[0], [3]], "pack 1 names trace 3 of 3"),
        ([[0], [1.0]], r"pack 1 names trace 1\.0 of 3"),
        ([], "0 packs do not make whole steps"),
    ],
)
def test_refuses_packs_of_no_such_trace(path, packs, says):
    with pytest.raises(UserError, match=says):
        write(path, packs)
    assert not path.exists()


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"layout": LAYOUT._replace(nemo_version="2.3")}, r"no mask convention is proven for NeMo 2\.3"),
        ({"layout": LAYOUT._replace(eos_id=END)}, r"eos is the end-of-turn token \(2\)"),
        ({"layout": LAYOUT._replace(capacity_tokens=5)}, r"pack 0 has 6 inputs, over the capacity 5"),
        ({"packs_per_step": 4}, "2 packs do not make whole steps of 4"),
        ({"weights": [[1, 0], [0]]}, "pack 1 has 1 sequences and draw counts"),
        ({"weights": [[1], [1]]}, "pack 0 has 2 sequences and draw counts"),
        ({"weights": [[1, 1]]}, "2 packs, draw counts of 1"),
        ({"weights": [[1, 1], [-1]]}, "pack 1 has the draw count -1"),
        ({"weights": [[1, 1], [1.5]]}, r"pack 1 has the draw count 1\.5"),
        ({"layout": LAYOUT._replace(context_parallel_size=0)}, "context_parallel_size 0"),
        ({"layout": LAYOUT._replace(eos_id=-1)}, "eos -1 and end of turn 2 are not both ids"),
        ({"layout": LAYOUT._replace(end_of_turn_id=2**31)}, "are not both ids in 0"),
    ],
)
def test_refuses_layouts_and_weights_that_the_loader_would_misread(path, named, says):
    with pytest.raises(UserError, match=says):
        write(path, **named)
    assert not path.exists()


def test_capacity_counts_one_less_than_the_tokens_of_each_sequence(path):
    assert write(path, layout=LAYOUT._replace(capacity_tokens=6)).longest_pack_tokens == 6


def test_the_convention_lies_beside_the_file_and_is_checked(path):
    convention = write(path)
    assert check_convention(path, nemo_version="2.1", eos_id=EOS, max_seq_length=6) == convention
    for field, value in {"nemo_version": "2.3", "eos_id": 9, "context_parallel_size": 2, "packs_per_step": 8,
                         "mask": "next_token"}.items():  # fmt: skip
        with pytest.raises(UserError, match=f"with {field} = .*, training goes by {value}"):
            check_convention(path, **{field: value})
    with pytest.raises(UserError, match="longest pack has 6 tokens, over max_seq_length 5"):
        check_convention(path, max_seq_length=5)
    with pytest.raises(TypeError, match="no eos_idd"):
        check_convention(path, eos_idd=EOS)


def test_a_file_without_or_with_another_s_sidecar_is_refused(path, tmp_path):
    write(path)
    other = tmp_path / "other.npy"
    write(other, [[0], [1]])
    with pytest.raises(UserError, match=r"bytes, its sidecar says"):
        check_convention(path.rename(other))
    sidecar_path(other).unlink()
    with pytest.raises(UserError, match="nothing says which mask convention"):
        check_convention(other)


def test_a_changed_byte_is_noticed_unless_told_not_to_look(path):
    write(path)
    data = bytearray(path.read_bytes())
    data[data.index(np.int32(300_000).tobytes())] ^= 1
    path.write_bytes(data)
    check_convention(path, check_hash=False)
    with pytest.raises(UserError, match="sha256"):
        check_convention(path)


@pytest.mark.parametrize(
    "change",
    [{"packs": "two"}, {"unheard_of": 1}, {"eos_id": None}],
)
def test_a_sidecar_that_does_not_parse_is_refused(path, change):
    write(path)
    row = json.loads(sidecar_path(path).read_text()) | change
    sidecar_path(path).write_text(json.dumps(row))
    with pytest.raises(UserError, match=re.escape(next(iter(change)))):
        read_convention(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"packs": 3, "packs_per_step": 2}, "3 packs in steps of 2"),
        ({"packs_per_step": 0}, "2 packs in steps of 0"),
        ({"packs": 0}, "0 packs in steps of 1"),
        ({"mask": "next_token"}, "mask 'next_token', known is 'own_token'"),
        ({"weighting": "some"}, "weighting 'some'"),
        ({"context_parallel_size": 0}, "context_parallel_size 0"),
        ({"context_parallel_size": 2}, "pad_to_multiple 1 with context_parallel_size 2"),
        ({"longest_pack_tokens": 17}, "longest pack 17 of a capacity of 16"),
        ({"eos_id": END}, "are to be two tokens"),
    ],
)
def test_a_sidecar_that_contradicts_itself_is_refused(path, change, says):
    write(path)
    row = json.loads(sidecar_path(path).read_text()) | change
    sidecar_path(path).write_text(json.dumps(row))
    with pytest.raises(UserError, match=rf"contradicts itself: .*{says}"):
        read_convention(path)


def test_a_directory_or_bytes_in_place_of_file_or_sidecar_are_refused(path):
    write(path)
    sidecar_path(path).write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match=r"train\.npy\.json"):
        read_convention(path)
    write(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="no such file"):
        check_convention(path)
    with pytest.raises(UserError, match="not a packed file"):
        read_packed_file(path)
    sidecar_path(path).unlink()
    sidecar_path(path).mkdir()
    with pytest.raises(UserError, match=r"train\.npy\.json: cannot be read"):
        read_convention(path)


def test_a_file_of_no_packs_is_refused(path):
    np.save(path, np.array([], dtype=object))
    with pytest.raises(UserError, match="holds no packs"):
        read_packed_file(path)


@given(
    sizes=st.lists(st.integers(2, 9), min_size=1, max_size=6),
    starts=st.lists(st.integers(1, 8), min_size=6, max_size=6),
    packs=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=5),
    counts=st.lists(st.integers(1, 70_000), min_size=4, max_size=4),
    context_parallel_size=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=60, deadline=None)
def test_every_sequence_comes_back_with_its_own_tokens_and_counts(
    tmp_path_factory, sizes, starts, packs, counts, context_parallel_size
):
    path = tmp_path_factory.mktemp("round") / "x.npy"
    traces = [
        Tokens(np.append(np.arange(100 * n + 3, 100 * n + 2 + size), END), min(start, size - 1))
        for n, (size, start) in enumerate(zip(sizes, starts))
    ]
    packs = [[index % len(traces) for index in members] for members in packs]
    weights = [counts[: len(members)] for members in packs]
    layout = Layout(100, EOS, END, context_parallel_size)
    write_packed_file(path, packs, traces, layout, packs_per_step=1, weights=weights)
    verify_packed_file(path, layout)
    for pack, members, drawn in zip(read_packed_file(path), packs, weights):
        for (ids, mask), index, count in zip(pack.sequences(), members, drawn, strict=True):
            trace = traces[index]
            size = len(trace.ids)
            assert ids[:size].tolist() == trace.ids.tolist()
            assert set(ids[size:].tolist()) <= {EOS}
            expected = [0] * trace.answer_start + [count] * (size - trace.answer_start)
            assert mask.tolist() == expected + [0] * (len(ids) - size)
            assert len(ids) - 1 == packed_lengths([trace], layout)[0]
