"""SHA-256 of files and folders, remembered while path, size, modification time and inode stay the same.

The memory is one folder that many processes share, on several nodes: a file is hashed by one of them while the
others wait for its digest, which is written as soon as it is known.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import msgspec

from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.json_file import DAMAGED

_Memory = tuple[int, int, int, Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]]
"""Size in bytes, time of the last change in ns, inode, digest."""
_FILE = "hashes.json"
_SMALL_BYTES = 1 << 20
"""Below it a file is hashed in a millisecond: not worth a lock and a line in the shared memory."""
_THREADS = 8
"""Shards of a model that are hashed at a time: hashlib releases the interpreter's lock."""
_SLOTS = 64
"""Lock files: two files of one slot wait for each other, which costs time and nothing else."""
_MOST_ENTRIES = 2000
"""Beyond so many, entries of deleted files are dropped: looking for each takes a file server a while."""


class Hasher:
    """Hashes remembered in the folder ``cache`` (None: in this object alone). It is made when there is something
    to remember and its parent is there. File system errors there are ignored: it is only a memory.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._known: dict[str, _Memory] = {}
        self._gone: set[str] = set()
        self._writing = threading.Lock()
        if cache is not None:
            self.learn(cache)

    def learn(self, cache: Path) -> None:
        """Add what the memory in another folder has, and this one lacks."""
        self._known = {**_read(cache), **self._known}

    def same_file(self, known: Path, link: Path) -> None:
        """``link`` is a hard link to ``known``, so it has the same hash."""
        if (memory := self._known.get(str(known.resolve()))) is not None:
            self._known[str(link.resolve())] = memory

    def knows(self, path: Path) -> bool:
        """Whether the file's hash is remembered."""
        return self._remembered(str(path.resolve()), _mark(path)) is not None

    def sha256(self, path: Path) -> str:
        """Hex digest of a file; of a folder, the digest of its sorted relative paths and digests."""
        if path.is_dir():
            files = _files_of(path)
            lines = [f"{d}  {p.relative_to(path).as_posix()}\n" for p, d in zip(files, self._each(files))]
            return hashlib.sha256("".join(lines).encode()).hexdigest()
        key, mark = str(path.resolve()), _mark(path)
        if (digest := self._remembered(key, mark)) is not None:
            return digest
        if self._cache is None or mark[0] < _SMALL_BYTES:
            self._known[key] = (*mark, sha256_of(path))
            return self._known[key][3]
        with _locked(self._cache, f"lock-{zlib.crc32(key.encode()) % _SLOTS}"):
            self._known |= {k: m for k, m in _read(self._cache).items() if k == key}  # another may have been first
            if (digest := self._remembered(key, mark)) is None:
                self._known[key] = (*mark, digest := sha256_of(path))
                self._gone.discard(key)
                self._write({key})
        return digest

    def _each(self, files: list[Path]) -> Iterable[str]:
        if sum(path.stat().st_size for path in files) < _THREADS * _SMALL_BYTES:
            return map(self.sha256, files)
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(self.sha256, files))

    def moved(self, old: Path, new: Path) -> None:
        """The folder ``old`` was renamed to ``new``: keep the hashes of its files."""
        before, after = f"{os.path.realpath(old)}/", f"{os.path.realpath(new)}/"
        names = {key: after + key[len(before) :] for key in self._known if key.startswith(before)}
        self._gone |= names.keys()
        self._known = {names.get(key, key): memory for key, memory in self._known.items()}

    def listing(self, folder: Path) -> str:
        """Digest of the names and sizes below ``folder``, for data that is too big to hash."""
        lines = [f"{p.stat().st_size}  {p.relative_to(folder).as_posix()}\n" for p in _files_of(folder)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def save(self) -> None:
        """Write what only this object knows so far: hashes of files that were moved, linked or learnt of."""
        self._write(self._known.keys() - self._gone)

    def _remembered(self, key: str, mark: tuple[int, int, int]) -> str | None:
        memory = self._known.get(key)
        return memory[3] if memory is not None and memory[:3] == mark else None

    def _write(self, keys: Iterable[str]) -> None:
        """Merge the entries of ``keys`` into the shared memory; those of small files stay out of it."""
        if self._cache is None or not self._cache.parent.is_dir():
            return
        new = {key: self._known[key] for key in keys if self._known[key][0] >= _SMALL_BYTES}
        with self._writing, _locked(self._cache, "lock"), contextlib.suppress(OSError):
            before = _read(self._cache)
            merged = {key: memory for key, memory in {**before, **new}.items() if key not in self._gone}
            if len(merged) > _MOST_ENTRIES:
                merged = {key: memory for key, memory in merged.items() if Path(key).exists()}
            if merged != before:
                write_bytes(self._cache / _FILE, msgspec.json.encode(merged))


def _read(cache: Path) -> dict[str, _Memory]:
    with contextlib.suppress(OSError, *DAMAGED):
        return msgspec.json.decode((cache / _FILE).read_bytes(), type=dict[str, _Memory])
    return {}


@contextlib.contextmanager
def _locked(cache: Path, name: str) -> Iterator[None]:
    """Hold the lock ``name`` of the shared memory; where the file system has none, go on without: a file is then
    hashed twice, or an entry is lost.
    """
    descriptor = None
    with contextlib.suppress(OSError):
        cache.mkdir(exist_ok=True)
        descriptor = os.open(cache / name, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _mark(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in blocks of 1 MiB."""
    found = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            found.update(block)
    return found.hexdigest()
