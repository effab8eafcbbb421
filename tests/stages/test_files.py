"""Atomic writes, rows that are appended, remembered digests."""

from __future__ import annotations

import codecs
import errno
import hashlib
import os

import pytest

from nemo_cot.errors import UserError
from nemo_cot.io.atomic import atomic_writer, write_text
from nemo_cot.io.hashing import Hasher
from nemo_cot.io.json_file import read_json
from nemo_cot.io.jsonl import JsonlAppender, drop_cut_line, iter_numbered_jsonl, read_jsonl, write_jsonl
from nemo_cot.progress import read_progress
from nemo_cot.records import Problem
from nemo_cot.stages.lock import LOCK, run_lock
from nemo_cot.stages.manifest import read_manifest
from nemo_cot.stages.publish import read_attempt

UNREADABLE = (
    b'{"host": "\xff", "stage": "\xff", "fingerprint": "\xff", "label": "\xff"}',  # a text of each kind of file
    b'{"a": ' + b"[" * 200_000,
)
"""What a decoder raises another error for than its own."""


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")
    with atomic_writer(path) as handle:
        handle.write("new")
        handle.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(error):
        with atomic_writer(path) as handle:
            handle.write("half")
            raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_files_get_the_usual_permissions(tmp_path):
    umask = os.umask(0)
    os.umask(umask)
    write_text(tmp_path / "file", "x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("cut", [b'{"row":2', b'{"row":2}', b"\xff\xfe", b'{"row": "' + b"x" * 200_000])
def test_a_cut_line_is_dropped(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"row":0}\n{"row":1}\n' + cut)
    with JsonlAppender(path) as out:
        out.append([{"row": 2}, {"row": 3}])
    assert [row["row"] for row in read_jsonl(path)] == [0, 1, 2, 3]


def test_a_file_of_one_cut_line_becomes_empty(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"row"')
    assert drop_cut_line(path) and path.read_bytes() == b""
    assert not drop_cut_line(path) and not drop_cut_line(tmp_path / "none")


def test_appended_rows_are_there_for_others_at_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    with JsonlAppender(path) as out:
        out.append([{"row": 0}])
        assert path.read_bytes() == b'{"row":0}\n'


@pytest.mark.parametrize("line, part", [
    ('{"a": 1', "line 3"),
    ('{"problem_id": "x", "problem": 7, "expected_answer": "1"}', "$.problem"),
    ('{"problem_id": "x", "problem": "p"}', "expected_answer"),
    ('[1, 2]', "line 3"),
    ("[" * 100_000, "line 3"),
    ('"\udcff"', "line 3"),
])  # fmt: skip
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path, line, part):
    path = tmp_path / "rows.jsonl"
    good = b'{"problem_id": "a", "problem": "p", "expected_answer": "1"}\n'
    path.write_bytes(good + b"\n" + line.encode("utf-8", "surrogateescape") + b"\n" + good)
    with pytest.raises(UserError) as caught:
        read_jsonl(path, Problem)
    assert f"{path}, line 3" in str(caught.value) and part in str(caught.value) and caught.value.fix


def test_line_numbers_count_blank_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"a": 1}\n\n\n{"a": 2}\n')
    assert [(number, row["a"]) for number, row in iter_numbered_jsonl(path)] == [(2, 1), (5, 2)]


def test_no_rows_are_an_error_unless_allowed(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert write_jsonl(path, []) == 0
    with pytest.raises(UserError, match="no rows"):
        read_jsonl(path)
    assert read_jsonl(path, allow_empty=True) == []


def test_digests_are_remembered_while_size_and_time_stay(tmp_path, monkeypatch):
    path, cache = tmp_path / "file", tmp_path / "cache.json"
    path.write_bytes(b"content")
    first = Hasher(cache)
    assert first.sha256(path) == hashlib.sha256(b"content").hexdigest()
    first.save()
    monkeypatch.setattr("nemo_cot.io.hashing._digest", lambda _: pytest.fail("hashed again"))
    assert Hasher(cache).sha256(path) == hashlib.sha256(b"content").hexdigest()


def test_two_processes_keep_each_others_digests(tmp_path, monkeypatch):
    one, two, cache = tmp_path / "one", tmp_path / "two", tmp_path / "cache.json"
    hashers = [Hasher(cache), Hasher(cache)]
    for path, hasher in zip((one, two), hashers, strict=True):
        path.write_text(path.name)
        hasher.sha256(path)
    for hasher in hashers:
        hasher.save()
    monkeypatch.setattr("nemo_cot.io.hashing._digest", lambda _: pytest.fail("hashed again"))
    assert Hasher(cache).sha256(one) != Hasher(cache).sha256(two)


def test_a_memory_that_cannot_be_kept_fails_nothing(tmp_path, monkeypatch):
    """ESTALE: what a network file system says of a file that another machine removed."""
    (tmp_path / "file").write_bytes(b"content")
    hasher = Hasher(tmp_path / "cache.json")
    hasher.sha256(tmp_path / "file")

    def stale(descriptor: int) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "fsync", stale)
    hasher.save()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("change", [
    lambda path: path.write_bytes(b"longer content"),
    lambda path: (path.write_bytes(b"CONTENT"), os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))),
], ids=["size", "time"])  # fmt: skip
def test_a_changed_file_is_hashed_again(tmp_path, change):
    path, cache = tmp_path / "file", tmp_path / "cache.json"
    path.write_bytes(b"content")
    hasher = Hasher(cache)
    hasher.sha256(path)
    hasher.save()
    change(path)
    assert Hasher(cache).sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_damaged_memory_of_digests_is_started_anew(tmp_path):
    cache, path = tmp_path / "cache.json", tmp_path / "file"
    path.write_bytes(b"content")
    stat = path.stat()
    entry = b'{"%s": [%d, %d, "text"]}' % (os.fsencode(path.resolve()), stat.st_size, stat.st_mtime_ns)
    for damage in (b"{", b'{"a": 1}', b"[]", entry, *UNREADABLE):
        cache.write_bytes(damage)
        assert Hasher(cache).sha256(path) == hashlib.sha256(b"content").hexdigest()


@pytest.mark.parametrize("damage", UNREADABLE, ids=["not UTF-8", "nested"])
def test_whatever_cannot_be_decoded_is_one_error_or_as_if_it_were_not_there(damage, tmp_path):
    """msgspec's own error, UnicodeDecodeError and RecursionError are three kinds."""
    for name in ("rows.jsonl", "manifest.json", ".attempt.json", ".progress.json", LOCK):
        (tmp_path / name).write_bytes(damage)
    for read in (
        lambda: read_jsonl(tmp_path / "rows.jsonl"),
        lambda: read_json(tmp_path / "rows.jsonl", dict, fix="x"),
        lambda: read_manifest(tmp_path),
    ):
        with pytest.raises(UserError) as caught:
            read()
        assert caught.value.fix and str(tmp_path) in caught.value.where
    assert read_attempt(tmp_path) is None and read_progress(tmp_path) is None
    with run_lock(tmp_path):
        pass


def test_a_folders_digest_covers_names_and_contents(tmp_path):
    def digest() -> str:
        return Hasher().sha256(tmp_path)

    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_text("x")
    seen = {digest()}
    (tmp_path / "deep" / "er" / "file").write_text("y")
    seen.add(digest())
    (tmp_path / "deep" / "er" / "file").rename(tmp_path / "deep" / "file")
    seen.add(digest())
    (tmp_path / "more").write_text("")
    seen.add(digest())
    assert len(seen) == 4


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(codecs.BOM_UTF8 + b'{"a": 1}\n{"a": 2}\n')
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]
