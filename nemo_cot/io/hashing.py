"""SHA-256 of files and folders, remembered while size and modification time stay the same."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from nemo_cot.io.atomic import write_bytes


class Hasher:
    """Hashes with a memory in ``cache_path`` (a JSON file), as git's index has for its files."""

    def __init__(self, cache_path: Path | None = None) -> None:
        self._cache_path = cache_path
        self._known: dict[str, list] = {}
        if cache_path is not None:
            self.learn(cache_path)

    def learn(self, cache_path: Path) -> None:
        """Take over what another memory holds beyond this one."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            known = msgspec.json.decode(cache_path.read_bytes(), type=dict[str, list])
            self._known = {**known, **self._known}

    def same_file(self, known: Path, link: Path) -> None:
        """``link`` is a hard link to ``known``: what is remembered of the one holds for the other."""
        if (memory := self._known.get(str(known.resolve()))) is not None:
            self._known[str(link.resolve())] = memory

    def sha256(self, path: Path) -> str:
        """Hex digest of a file; of a folder, the digest of its sorted relative paths and digests."""
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file())
            lines = [f"{self.sha256(p)}  {p.relative_to(path).as_posix()}\n" for p in files]
            return hashlib.sha256("".join(lines).encode()).hexdigest()
        stat = path.stat()
        key, mark = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(key)
        if known is None or known[:2] != mark:
            self._known[key] = known = [*mark, _digest(path)]
        return known[2]

    def moved(self, old: Path, new: Path) -> None:
        """The folder ``old`` was renamed to ``new``: what is remembered of its files goes with them."""
        before, after = f"{os.path.realpath(old)}/", f"{os.path.realpath(new)}/"
        self._known = {
            after + key[len(before) :] if key.startswith(before) else key: memory
            for key, memory in self._known.items()
        }

    def listing(self, folder: Path) -> str:
        """Digest of the names and sizes below ``folder``: for what is too big to be read for this."""
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        lines = [f"{p.stat().st_size}  {p.relative_to(folder).as_posix()}\n" for p in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def save(self) -> None:
        """Keep the memory for the next process, with what others kept meanwhile; entries of files that
        are gone are dropped. It is only a memory: a file system that fails here fails nothing.
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
