"""Files that are no packed files, or not of this format: refused unrun, with the place."""

from __future__ import annotations

import io
import pickle
import re

import numpy as np
import pytest

from nemo_cot.errors import UserError
from nemo_cot.training.nemo_aligner.packed_file import read_packed_file
from tests.training.nemo.test_packed_file import write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "train.npy"


class Bomb:
    def __reduce__(self):
        return (open, ("bomb-went-off", "w"))


def test_a_file_that_would_run_code_is_refused_unrun(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    row = {"input_ids": Bomb(), "loss_mask": [1], "seq_start_id": [0]}
    np.save(path, np.array([row, row], dtype=object))
    with pytest.raises(UserError, match=r"asks to build (io|_io|builtins)\.open"):
        read_packed_file(path)
    assert not (path.parent / "bomb-went-off").exists()


def array_file(payload: bytes, rows: int = 1) -> bytes:
    handle = io.BytesIO()
    np.lib.format.write_array_header_1_0(handle, {"descr": "|O", "fortran_order": False, "shape": (rows,)})
    return handle.getvalue() + payload


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a packed file"),
        (b"not npy at all", "not a packed file"),
        (array_file(pickle.dumps([1, 2])), "the header and the rows do not agree"),
        (array_file(pickle.dumps({"a": 1})[:-3]), "not a packed file"),
    ],
)
def test_files_that_are_not_packed_files_are_refused(path, content, says):
    path.write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_packed_file(path)


@pytest.mark.parametrize("name", ["os.system", "os.dtype", "numpy.load", "builtins._reconstruct"])
def test_any_other_name_in_the_file_is_refused(path, name):
    module, function = name.split(".")
    path.write_bytes(array_file(f"c{module}\n{function}\n.".encode()))
    with pytest.raises(UserError, match=f"asks to build {re.escape(name)}"):
        read_packed_file(path)


def test_a_cut_file_is_refused_at_every_length(path):
    write(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="not a packed file"):
            read_packed_file(path)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"input_ids": [1, 2]}, "is not a dictionary of input_ids"),
        ({"input_ids": [1, 2], "loss_mask": [1], "seq_start_id": [0]}, "of one length"),
        ({"input_ids": [1.5, 2], "loss_mask": [1, 1], "seq_start_id": [0]}, "not whole numbers"),
        ({"input_ids": [1, 2], "loss_mask": [1, 1], "seq_start_id": [1]}, "begins with 0"),
        ({"input_ids": [1, 2, 3], "loss_mask": [1, 1, 1], "seq_start_id": [0, 2]}, "fewer than 2 tokens"),
        ({"input_ids": [1, 2, 3], "loss_mask": [1, 1, 1], "seq_start_id": np.arange(1)}, "not a list"),
        *(
            (
                {"input_ids": [1, 2, 3, 4], "loss_mask": [1] * 4, "seq_start_id": [0, start]},
                "not a list of whole",
            )
            for start in ("a", None, 2.5, 2.0, [2], True)
        ),
        ({"input_ids": [1, 2, 3, 4], "loss_mask": [1] * 4, "seq_start_id": [0, 9]}, "fewer than 2 tokens"),
        ({"input_ids": [1, 2, 3, 4], "loss_mask": [1] * 4, "seq_start_id": [0, -2]}, "fewer than 2 tokens"),
        (
            {"input_ids": [1, 2, 3, 4], "loss_mask": [1] * 4, "seq_start_id": [0, 10**30]},
            "fewer than 2 tokens",
        ),
        ({"input_ids": [], "loss_mask": [], "seq_start_id": [0]}, "not whole numbers"),
        ({"input_ids": [[1], [2, 3]], "loss_mask": [1, 1], "seq_start_id": [0]}, "not whole numbers"),
        ({"input_ids": [1, -2], "loss_mask": [0, 1], "seq_start_id": [0]}, "a token id is not in 0"),
        ({"input_ids": [1, 2**31], "loss_mask": [0, 1], "seq_start_id": [0]}, "a token id is not in 0"),
        ({"input_ids": [1, 10**30], "loss_mask": [0, 1], "seq_start_id": [0]}, "not whole numbers"),
        ({"input_ids": [1, 2], "loss_mask": [0, -1], "seq_start_id": [0]}, "loss_mask has a negative count"),
    ],
)
def test_rows_of_another_format_are_refused_with_their_number(path, row, says):
    good = {"input_ids": [1, 2], "loss_mask": [0, 1], "seq_start_id": [0]}
    np.save(path, np.array([good, row], dtype=object))
    with pytest.raises(UserError, match=f"pack 1: .*{says}"):
        read_packed_file(path)
