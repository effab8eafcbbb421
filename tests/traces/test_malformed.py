"""Forty trace files that cannot be read: each is one line with file, row, key and fix, whatever stands in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from tests.support import one_error, recipe_here, tiny_experiment
from tests.traces.source_files import read, write

GOOD = {"problem_id": "p0", "generation": "x"}
HOSTILE = "\x1b[2J\x1b]0;t\x07\r\nerror: forged\u2028\u202e <script>"
BIG = "y" * 5_000_000


def line(**changes) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def second(bad: bytes) -> bytes:
    """A good line, a blank one, then ``bad`` in line 3."""
    return line() + b"\n\n" + bad + b"\n"


def parquet(*rows: dict) -> Callable[[Path], bytes]:
    return lambda folder: write(folder / "made.parquet", list(rows)).read_bytes()


def cut(size: float) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        whole = write(folder / "made.parquet", [{**GOOD, "generation": f"{n}" * 50} for n in range(2000)]).read_bytes()
        return whole[: int(len(whole) * size)]

    return make


def flipped(folder: Path) -> bytes:
    """A parquet file whose footer is whole and whose first page is not."""
    whole = write(folder / "made.parquet", [{**GOOD, "generation": f"{n}" * 50} for n in range(2000)]).read_bytes()
    return whole[:40] + bytes(255 - b for b in whole[40:400]) + whole[400:]


TEXT, GENERATION = ("t.jsonl, line 3, field generation", "not text"), "line 3, field generation"
CASES: dict[str, tuple[str, bytes | Callable[[Path], bytes], tuple[str, ...]]] = {
    # keys
    "wrong keys": ("t.jsonl", b'{"question": "q", "output": "x"}\n', ("line 1, field generation", "the row has question, output", "teacher.columns.generation")),
    "wrong keys later": ("t.jsonl", second(b'{"problem_id": "p0", "text": "x"}'), (GENERATION, "the row has problem_id, text")),
    "the keys of a set": ("t.jsonl", b'{"question": "q", "solution": "x", "answer": "1"}\n', ("teacher=limo has these columns",)),
    "no keys": ("t.jsonl", second(b"{}"), (GENERATION, "no keys")),
    "no problem": ("t.jsonl", second(b'{"generation": "x"}'), ("line 3, field problem", "teacher.columns.problem")),
    "empty problem": ("t.jsonl", second(b'{"problem": " ", "generation": "x"}'), ("line 3, field problem", "problem is empty")),
    "key twice": ("t.jsonl", second(b'{"problem_id": "p0", "generation": "x", "generation": "y"}'), ("line 3", "the key 'generation' occurs twice")),
    "a thousand keys": ("t.jsonl", second(json.dumps({f"k{n}" * 30: n for n in range(1000)}).encode()), (GENERATION, "and more")),
    # types
    "generation null": ("t.jsonl", second(line(generation=None)), (GENERATION, "is missing")),
    "generation number": ("t.jsonl", second(line(generation=5)), TEXT),
    "generation object": ("t.jsonl", second(line(generation={"text": "x"})), TEXT),
    "generations mixed": ("t.jsonl", second(line(generation=["x", 5])), ("line 3, field generation, number 2", "not text")),
    "generations nested": ("t.jsonl", second(line(generation=[["x"]])), ("field generation, number 1", "not text")),
    "id list": ("t.jsonl", second(line(problem_id=["p0"])), ("line 3, field problem_id", "is a list, not text")),
    "id true": ("t.jsonl", second(line(problem_id=True)), ("line 3, field problem_id", "is a bool, not text")),
    "problem object": ("t.jsonl", second(line(problem={"text": "What is 0 + 1?"})), ("line 3, field problem", "is a dict")),
    "answer list": ("t.jsonl", second(line(expected_answer=[1])), ("line 3, field expected_answer", "is a list")),
    "finish reason number": ("t.jsonl", second(line(finish_reason=0)), ("line 3, field finish_reason", "is a int")),
    "finish reasons too few": ("t.jsonl", second(line(generation=["x", "y"], finish_reason=["stop"])), ("field finish_reason", "has 1 values for 2 generations")),
    "an array line": ("t.jsonl", second(b'["p0", "x"]'), ("line 3", "got `array`")),
    "a text line": ("t.jsonl", second(b"p0: x"), ("line 3", "malformed", "correct or remove this line")),
    # bytes
    "cut line": ("t.jsonl", second(line()[:-5]), ("line 3", "truncated")),
    "not a number": ("t.jsonl", second(b'{"problem_id": "p0", "generation": NaN}'), ("line 3", "malformed")),
    "infinite": ("t.jsonl", second(b'{"problem_id": 1e999, "generation": "x"}'), ("line 3", "out of range")),
    "huge integer": ("t.jsonl", second(b'{"problem_id": ' + b"9" * 5000 + b', "generation": "x"}'), ("line 3", "out of range")),
    "nested depth": ("t.jsonl", second(b'{"generation": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), ("line 3", "recursion")),
    "zero byte": ("t.jsonl", second(b'{"problem_id": "p0", "generation": "a\x00b"}'), ("line 3", "invalid character")),
    "lone surrogate": ("t.jsonl", second(b'{"problem_id": "p0", "generation": "\\ud800"}'), ("line 3",)),
    "not UTF-8": ("t.jsonl", second(b'{"problem_id": "p0", "generation": "\xff"}'), ("line 3", "utf-8")),
    "UTF-16": ("t.jsonl", line().decode().encode("utf-16"), ("line 1",)),
    "a mark in the middle": ("t.jsonl", second(b"\xef\xbb\xbf" + line()), ("line 3", "malformed")),
    "5 MB, then wrong": ("t.jsonl", second(line(generation=BIG)[:-1] + b', "problem": 1e999}'), ("line 3", "out of range")),
    "5 MB key": ("t.jsonl", second(json.dumps({BIG: 1}).encode()), (GENERATION, "the row has y")),
    "hostile key": ("t.jsonl", second(json.dumps({HOSTILE: 1}).encode()), (GENERATION, "the row has")),
    "hostile text": ("t.jsonl", second(line(problem=HOSTILE)), ("line 3", "the id p0 is that of")),
    "empty": ("t.jsonl", b"\n \n", ("t.jsonl", "holds no rows")),
    # other formats
    "array of other things": ("t.json", b'[{"problem_id": "p0", "generation": "x"}, 3]', ("t.json", "$[1]", "array of objects")),
    "array that is cut": ("t.json", b'[{"problem_id": "p0", "generation": "x"},', ("t.json", "truncated")),
    "array with a wrong row": ("t.json", b'[{"problem_id": "p0", "generation": "x"}, {"problem_id": "p0"}]', ("t.json, row 2, field generation",)),
    "csv with a cell too many": ("t.csv", b"problem_id,generation\np0,x\np0,x,y\n", ("t.csv, line 3", "3 cells, where the header has 2")),
    "csv with an open quote": ("t.csv", b'problem_id,generation\np0,"x\n', ("t.csv, line 2", "unexpected end of data")),
    "csv with a column twice": ("t.csv", b"generation,problem_id,generation\nx,p0,y\n", ("t.csv, line 1", "'generation' twice")),
    "csv in Latin-1": ("t.csv", b"problem_id,generation\np0,\xe4\n", ("t.csv, line", "utf-8")),
    "csv without the columns": ("t.csv", b"a,b\n1,2\n", ("t.csv, line 2, field generation", "the row has a, b")),
    "parquet, cut in the middle": ("t.parquet", cut(0.5), ("t.parquet", "not a whole parquet file", "download it again")),
    "parquet, cut at the end": ("t.parquet", cut(0.99), ("t.parquet", "not a whole parquet file")),
    "parquet of nothing": ("t.parquet", b"", ("t.parquet", "not a whole parquet file")),
    "parquet that is text": ("t.parquet", line() + b"\n", ("t.parquet", "not a whole parquet file")),
    "parquet with a page of noise": ("t.parquet", flipped, ("t.parquet", "not a whole parquet file")),
    "parquet without the columns": ("t.parquet", parquet({"a": 1, "b": 2}), ("t.parquet, row 1, field generation", "the row has a, b")),
    "parquet with a null": ("t.parquet", parquet(GOOD, {**GOOD, "generation": None}), ("t.parquet, row 2, field generation", "is missing")),
    "parquet with bytes": ("t.parquet", parquet({**GOOD, "generation": b"\xff"}), ("t.parquet, row 1, field generation", "is a bytes, not text")),
}  # fmt: skip


def test_there_are_forty():
    assert len(CASES) >= 40


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_cannot_be_read_is_one_line_with_its_place(case, tmp_path):
    name, data, parts = CASES[case]
    path = tmp_path / name
    path.write_bytes(data(tmp_path) if callable(data) else data)
    with pytest.raises(UserError) as caught:
        read(path)
    text = str(caught.value)
    assert all(part in text for part in (str(path), *parts)), text[:600]
    assert caught.value.fix and text.isprintable() and len(text) < 1500, len(text)


@pytest.mark.parametrize("said, what", [
    (5, "is not a list of messages"), ([5], "is not a list of messages"), ([], "has no message of assistant"),
    ([{"role": "user", "content": "q"}], "has no message of assistant"), ([{"role": "assistant", "content": [{"text": "x"}]}], "is not text"),
    ([{"from": "human", "value": 5}, {"from": "gpt", "value": "x"}], "is not text"), ([{"who": "me"}], "has no message of assistant"),
])  # fmt: skip
def test_a_chat_that_is_none(said, what, tmp_path):
    path = write(tmp_path / "t.jsonl", [{"id": "p0", "messages": said}])
    with pytest.raises(UserError, match=what) as caught:
        read(path, "teacher.columns.messages=messages")
    assert caught.value.where == f"{path}, line 1, field messages" and "answer last" in caught.value.fix


def test_what_is_long_or_strange_and_well_is_read(tmp_path):
    rows = [{**GOOD, "generation": BIG}, {**GOOD, "generation": "a\x00b \U0001d538 \u202e"}]
    for name in ("t.jsonl", "t.parquet", "t.json"):
        assert [t.generation for t in read(write(tmp_path / name, rows))] == [row["generation"] for row in rows]
    assert read(write(tmp_path / "t.csv", rows[:1]))[0].generation == BIG


def test_a_damaged_saved_dataset_is_one_line(tmp_path):
    for number, damage in enumerate((lambda d: (d / "state.json").write_text("{"), lambda d: (d / "dataset_info.json").unlink(),
                                     lambda d: next(d.glob("*.arrow")).write_bytes(b"ARROW"))):  # fmt: skip
        folder = write(tmp_path / f"saved{number}", [GOOD])
        damage(folder)
        with pytest.raises(UserError, match="not a whole saved dataset") as caught:
            read(folder)
        assert str(folder) in caught.value.where and str(caught.value).isprintable()


@pytest.mark.parametrize("case", ["wrong keys later", "hostile text", "5 MB, then wrong", "parquet, cut in the middle"])
def test_the_command_line_says_so_before_anything_runs(case, packed, tiny_model, tmp_path):
    run = Path(shutil.copytree(packed, tmp_path / "runs" / "tiny"))
    name, data, parts = CASES[case]
    path = tmp_path / name
    data = data(tmp_path) if callable(data) else data
    path.write_bytes(data.replace(b'"p0"', b'"chain_sum-0"'))
    done = recipe_here("generate", *tiny_experiment(tiny_model, run.parent), "teacher=file", f"teacher.path={path}")
    assert one_error(done, str(path), *(part.replace("p0", "chain_sum-0") for part in parts)).isprintable()
