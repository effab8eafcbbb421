"""Atomic writes, rows that are appended, remembered digests."""

from __future__ import annotations

import codecs
import errno
import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

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
from tests.support import SECONDS, environment

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


@pytest.fixture
def big(tmp_path, monkeypatch):
    """A file that is worth remembering, and the folder of digests."""
    monkeypatch.setattr("nemo_cot.io.hashing._SMALL_BYTES", 4)
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path, tmp_path / ".hashes"


def never(path: Path) -> str:
    return pytest.fail(f"{path} is hashed again")


def test_digests_are_remembered_at_once_while_the_file_stays(big, monkeypatch):
    """Written when it is known, not at the end: the job that hashed it may be killed."""
    path, cache = big
    assert Hasher(cache).sha256(path) == hashlib.sha256(b"content").hexdigest()
    monkeypatch.setattr("nemo_cot.io.hashing.sha256_of", never)
    assert Hasher(cache).sha256(path) == hashlib.sha256(b"content").hexdigest()
    assert Hasher(cache).knows(path)


def test_small_files_are_not_worth_remembering(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    hasher = Hasher(tmp_path / ".hashes")
    hasher.sha256(tmp_path / "file")
    hasher.save()
    assert not (tmp_path / ".hashes" / "hashes.json").exists()


def test_two_processes_keep_each_others_digests(tmp_path, big, monkeypatch):
    one, two, cache = tmp_path / "one", tmp_path / "two.", big[1]
    hashers = [Hasher(cache), Hasher(cache)]
    for path, hasher in zip((one, two), hashers, strict=True):
        path.write_text(f"{path.name}....")
        hasher.sha256(path)
    monkeypatch.setattr("nemo_cot.io.hashing.sha256_of", never)
    assert Hasher(cache).sha256(one) != Hasher(cache).sha256(two)


_HASHES_TOO = """
import os, sys, time
from pathlib import Path
from nemo_cot.io import hashing

own, digest = hashing.Hasher(Path(sys.argv[2])), hashing.sha256_of

def slowly(path):
    with open(sys.argv[3], "a") as log:
        log.write(f"{path.name}\\n")
    time.sleep(0.3)
    return digest(path)

hashing.sha256_of, hashing._SMALL_BYTES = slowly, 4
print(own.sha256(Path(sys.argv[1])))
"""


def test_of_many_processes_one_hashes_each_file_and_the_others_wait_for_it(tmp_path):
    """As chunk jobs that start together: all have read the memory before any of them hashes."""
    model = tmp_path / "model"
    model.mkdir()
    for number in range(3):
        (model / f"shard-{number}").write_bytes(b"weights" * (number + 1))
    command = [sys.executable, "-c", _HASHES_TOO, model, tmp_path / ".hashes", tmp_path / "log"]
    jobs = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(4)]
    digests = {job.communicate(timeout=SECONDS)[0] for job in jobs}
    assert digests == {f"{Hasher().sha256(model)}\n"}
    assert sorted((tmp_path / "log").read_text().split()) == ["shard-0", "shard-1", "shard-2"]


def test_a_killed_process_leaves_no_lock(big):
    path, cache = big
    cache.mkdir()
    code = "import fcntl, os, sys; [fcntl.flock(os.open(f'{sys.argv[1]}/lock-{n}', os.O_CREAT | os.O_RDWR), 2) for n in range(64)]; print(1, flush=True); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, cache], timeout=SECONDS, capture_output=True)
    assert len(list(cache.iterdir())) == 64 and Hasher(cache).sha256(path)


def test_a_memory_that_cannot_be_kept_fails_nothing(big, monkeypatch):
    """ESTALE: what a network file system says of a file that another machine removed; and one without locks."""
    path, cache = big

    def stale(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "fsync", stale)
    monkeypatch.setattr(fcntl, "flock", stale)
    assert Hasher(cache).sha256(path) == hashlib.sha256(b"content").hexdigest()
    assert not [p for p in cache.iterdir() if "lock" not in p.name]


def test_nothing_is_made_where_there_are_no_runs_yet(big):
    path, cache = big
    Hasher(cache / "none" / "there").sha256(path)
    assert not cache.exists()


def _replaced(path: Path) -> None:
    """By another file of the same size and time, as a copy that keeps times does."""
    other, stat = path.with_name("other"), path.stat()
    other.write_bytes(b"CONTENT")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [
    lambda path: path.write_bytes(b"longer content"),
    lambda path: (path.write_bytes(b"CONTENT"), os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))),
    _replaced,
], ids=["size", "time", "inode"])  # fmt: skip
def test_a_changed_file_is_hashed_again(big, change):
    path, cache = big
    Hasher(cache).sha256(path)
    change(path)
    assert not Hasher(cache).knows(path)
    assert Hasher(cache).sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_renamed_folder_keeps_its_digests_and_leaves_none(tmp_path, big, monkeypatch):
    path, cache = big
    (tmp_path / "old").mkdir()
    path.rename(tmp_path / "old" / "file")
    hasher = Hasher(cache)
    hasher.sha256(tmp_path / "old" / "file")
    (tmp_path / "old").rename(tmp_path / "new")
    hasher.moved(tmp_path / "old", tmp_path / "new")
    hasher.save()
    monkeypatch.setattr("nemo_cot.io.hashing.sha256_of", never)
    assert Hasher(cache).sha256(tmp_path / "new" / "file")
    assert "/old/" not in (cache / "hashes.json").read_text()


def test_a_damaged_memory_of_digests_is_started_anew(big):
    path, cache = big
    cache.mkdir()
    stat = path.stat()
    entry = b'{"%s": [%d, %d, %d, "text"]}' % (
        os.fsencode(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino
    )  # fmt: skip
    for damage in (b"{", b'{"a": 1}', b"[]", entry, *UNREADABLE):
        (cache / "hashes.json").write_bytes(damage)
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
