"""JSON lines: read with the file, line and field of anything wrong; write atomically."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.io.atomic import atomic_writer
from nemo_cot.io.json_file import DAMAGED

T = TypeVar("T")


def iter_jsonl(path: Path, row_type: type[T] = dict) -> Iterator[T]:
    """Yield each line of ``path`` decoded as ``row_type`` (a msgspec Struct, or dict).

    Blank lines are skipped. Raises UserError naming file, line and field.
    """
    for _, row in iter_numbered_jsonl(path, row_type):
        yield row


def iter_numbered_jsonl(
    path: Path, row_type: type[T] = dict, *, unique_keys: bool = False
) -> Iterator[tuple[int, T]]:
    """As :func:`iter_jsonl`, with the line number of each row (from 1), for errors about its fields.

    ``unique_keys``: an object with the same key twice is an error, where else the last one counts.
    """
    decoder = msgspec.json.Decoder(row_type)
    with open_binary(path) as handle:
        for number, line in enumerate(handle, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip():
                yield number, decoded(decoder, line, path, number, unique_keys=unique_keys)


def read_jsonl(path: Path, row_type: type[T] = dict, *, allow_empty: bool = False) -> list[T]:
    """All rows of ``path``. Raises UserError for a bad row, and for no rows unless allowed."""
    rows = list(iter_jsonl(path, row_type))
    if not rows and not allow_empty:
        raise no_rows(path)
    return rows


def no_rows(path: Path) -> UserError:
    """The error for a file without any."""
    return UserError("the file holds no rows", where=str(path), fix="give a file with one JSON object per line")


def count_lines(path: Path) -> int:
    """Lines that are not blank. Raises OSError as the file system does."""
    with open(path, "rb") as handle:
        return sum(1 for line in handle if line.strip())


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write ``rows`` (dicts or Structs) atomically, one JSON object per line. Returns their number."""
    encoder = msgspec.json.Encoder()
    count = 0
    with atomic_writer(path, "wb") as handle:
        for row in rows:
            handle.write(encoder.encode(row) + b"\n")
            count += 1
    return count


class JsonlAppender:
    """Append rows to a file that survives a kill: a cut last line is dropped on reopening.

    Use as a context manager; :meth:`append` returns after the rows are on the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> JsonlAppender:
        drop_cut_line(self.path)
        self._handle = open(self.path, "ab")
        return self

    def __exit__(self, *exc: object) -> None:
        self._handle.close()

    def append(self, rows: Iterable[Any]) -> None:
        """Write ``rows`` in one write, then fsync. Raises OSError as the file system does."""
        self._handle.write(b"".join(self._encoder.encode(row) + b"\n" for row in rows))
        self._handle.flush()
        os.fsync(self._handle.fileno())


def drop_cut_line(path: Path) -> bool:
    """Truncate ``path`` after its last line break. Returns whether a partial line was dropped."""
    if not path.exists():
        return False
    with open(path, "rb+") as handle:
        keep = _end_of_last_line(handle)
        size = handle.seek(0, os.SEEK_END)
        if keep == size:
            return False
        handle.truncate(keep)
        os.fsync(handle.fileno())
    return True


def _end_of_last_line(handle: Any, block: int = 1 << 16) -> int:
    """Offset just behind the last line break, 0 without one; reads backwards in blocks."""
    position = handle.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - block)
        handle.seek(start)
        found = handle.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def open_binary(path: Path) -> IO[bytes]:
    """``path``, opened for reading. Raises UserError where there is no such file."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), fix="check the path") from None
    except IsADirectoryError:
        raise UserError(
            "is a directory, not a file", where=str(path), fix="name the .jsonl file in it"
        ) from None


def refuse_repeated_keys(data: bytes) -> None:
    """Raise ValueError if an object of this JSON has a key twice: which value is meant is not known."""
    json.loads(data, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")


def decoded(
    decoder: msgspec.json.Decoder[T], line: bytes, path: Path, number: int, *, unique_keys: bool = False
) -> T:
    """The row in ``line``. Raises UserError naming file and line."""
    try:
        row = decoder.decode(line)
        if unique_keys:
            refuse_repeated_keys(line)
        return row
    except DAMAGED as error:
        raise UserError(
            str(error), where=f"{path}, line {number}", fix="correct or remove this line"
        ) from None
