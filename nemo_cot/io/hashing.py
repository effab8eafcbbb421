"""SHA-256 of files and folders, remembered while size and modification time stay the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Annotated

import msgspec

from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.json_file import DAMAGED

_Memory = tuple[int, int, Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]]
"""Size in bytes, time of the last change in ns, digest."""


class Hasher:
    """Hashes remembered in ``cache_path`` (a JSON file), as in git's index."""

    def __init__(self, cache_path: Path | None = None) -> None:
        self._cache_path = cache_path
        self._known: dict[str, _Memory] = {}
        if cache_path is not None:
            self.learn(cache_path)

    def learn(self, cache_path: Path) -> None:
        """Add the entries of another cache that this one lacks."""
        with contextlib.suppress(OSError, *DAMAGED):
            known = msgspec.json.decode(cache_path.read_bytes(), type=dict[str, _Memory])
            self._known = {**known, **self._known}

    def same_file(self, known: Path, link: Path) -> None:
        """``link`` is a hard link to ``known``, so it has the same hash."""
        if (memory := self._known.get(str(known.resolve()))) is not None:
            self._known[str(link.resolve())] = memory

    def sha256(self, path: Path) -> str:
        """Hex digest of a file; of a folder, the digest of its sorted relative paths and digests."""
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file())
            lines = [f"{self.sha256(p)}  {p.relative_to(path).as_posix()}\n" for p in files]
            return hashlib.sha256("".join(lines).encode()).hexdigest()
        stat = path.stat()
        key, mark = str(path.resolve()), (stat.st_size, stat.st_mtime_ns)
        known = self._known.get(key)
        if known is None or known[:2] != mark:
            self._known[key] = known = (*mark, _digest(path))
        return known[2]

    def moved(self, old: Path, new: Path) -> None:
        """The folder ``old`` was renamed to ``new``: keep the hashes of its files."""
        before, after = f"{os.path.realpath(old)}/", f"{os.path.realpath(new)}/"
        self._known = {
            after + key[len(before) :] if key.startswith(before) else key: memory
            for key, memory in self._known.items()
        }

    def listing(self, folder: Path) -> str:
        """Digest of the names and sizes below ``folder``, for data that is too big to hash."""
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        lines = [f"{p.stat().st_size}  {p.relative_to(folder).as_posix()}\n" for p in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def save(self) -> None:
        """Save the cache for the next process, merged with what others saved meanwhile; entries of deleted
        files are dropped. File system errors are ignored: it is only a cache.
        """
        if self._cache_path is None:
            return
        self.learn(self._cache_path)
        with contextlib.suppress(OSError):
            self._known = {key: mark for key, mark in self._known.items() if Path(key).exists()}
            write_bytes(self._cache_path, msgspec.json.encode(self._known))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
