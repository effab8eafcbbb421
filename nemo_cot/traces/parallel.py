"""The rows of a JSON-lines file, worked on by several processes, with little in memory at a time."""

from __future__ import annotations

import codecs
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from nemo_cot.errors import Fault
from nemo_cot.io.jsonl import decoded
from nemo_cot.progress import track

R = TypeVar("R")
AT_ONCE = 1 << 19
"""Bytes of the file per task: about 40 traces of 3K tokens."""
ALONE = 1 << 22
"""Bytes of a file that is worked on here: starting processes would take longer."""
MOST_WORKERS = 16


class Chunk(NamedTuple):
    """``size`` bytes from ``offset``: whole lines, the first of them with the number ``line`` (from 1), which hold
    ``rows`` rows; ``first`` of the file's rows stand before.
    """

    path: Path
    offset: int
    size: int
    line: int
    rows: int
    first: int


class Line(NamedTuple):
    """A decoded row, where its line begins in the file, in bytes, and its number among the file's rows, from
    0.
    """

    row: Any
    offset: int
    number: int


Work = Callable[[list[Line]], list[R]]


def over_rows(
    path: Path,
    row_type: type,
    make: Callable[..., Work[R]],
    arguments: tuple,
    *,
    label: str,
    folder: Path | None = None,
) -> Iterator[R]:
    """What ``make(*arguments)`` makes of each row of ``path``, in the file's order.

    ``make`` is called once per process, with arguments that can be pickled; what it returns gets some rows at
    a time. Raises UserError for a bad row, naming file and line, and whatever the work raises; Fault if a
    process dies.
    """
    chunks = list(_chunks(path))
    total, done = sum(chunk.rows for chunk in chunks), 0
    workers = min(len(os.sched_getaffinity(0)), MOST_WORKERS, len(chunks))
    with track(label, total, "traces", folder) as tracker:
        alone = workers < 2 or sum(chunk.size for chunk in chunks) <= ALONE
        results = (
            _here(chunks, row_type, make, arguments)
            if alone
            else _spread(chunks, row_type, make, arguments, workers)
        )
        for chunk, found in zip(chunks, results):
            done += chunk.rows
            tracker.update(done)
            yield from found


def row_at(path: Path, offset: int, row_type: type[R]) -> R:
    """The row whose line begins ``offset`` bytes into the file."""
    with open(path, "rb") as handle:
        handle.seek(offset)
        return msgspec.json.decode(handle.readline(), type=row_type)


def _chunks(path: Path) -> Iterator[Chunk]:
    offset, size, line, rows, first = 0, 0, 1, 0, 0
    with open(path, "rb") as handle:
        for number, text in enumerate(handle, start=1):
            size += len(text)
            rows += bool(text.strip())
            if size >= AT_ONCE:
                yield Chunk(path, offset, size, line, rows, first)
                offset, size, line, rows, first = offset + size, 0, number + 1, 0, first + rows
    if size:
        yield Chunk(path, offset, size, line, rows, first)


def _lines(chunk: Chunk, decoder: msgspec.json.Decoder) -> list[Line]:
    with open(chunk.path, "rb") as handle:
        handle.seek(chunk.offset)
        data = handle.read(chunk.size)
    lines, offset = [], chunk.offset
    for number, text in enumerate(data.split(b"\n"), chunk.line):  # as a file is read: at line feeds only
        start = len(codecs.BOM_UTF8) if number == 1 and text.startswith(codecs.BOM_UTF8) else 0
        if text[start:].strip():
            row = decoded(decoder, text[start:], chunk.path, number)
            lines.append(Line(row, offset + start, chunk.first + len(lines)))
        offset += len(text) + 1
    return lines


def _here(
    chunks: list[Chunk], row_type: type, make: Callable[..., Work[R]], arguments: tuple
) -> Iterator[list[R]]:
    work, decoder = make(*arguments), msgspec.json.Decoder(row_type)
    for chunk in chunks:
        yield work(_lines(chunk, decoder))


def _spread(
    chunks: list[Chunk], row_type: type, make: Callable[..., Work[R]], arguments: tuple, workers: int
) -> Iterator[list[R]]:
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    pool = ProcessPoolExecutor(workers, context, _begin, (row_type, make, arguments))
    try:
        yield from pool.map(_do, chunks)
    except BrokenProcessPool:
        raise Fault(
            "a process died; the memory may be too small", where="measuring traces", fix="run again"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_STATE: dict[str, Any] = {}
"""Of a worker process: its decoder and its work."""


def _begin(row_type: type, make: Callable[..., Work], arguments: tuple) -> None:
    """Get a worker ready. It ends when its parent dies, however that happens, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    _STATE.update(decoder=msgspec.json.Decoder(row_type), work=make(*arguments))


def _do(chunk: Chunk) -> list:
    return _STATE["work"](_lines(chunk, _STATE["decoder"]))
