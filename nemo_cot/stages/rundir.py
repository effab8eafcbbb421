"""A run: one experiment in one directory, one folder per stage."""

from __future__ import annotations

import contextlib
import glob
import re
from collections.abc import Iterable
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.io.hashing import Hasher
from nemo_cot.io.paths import matches, real_path
from nemo_cot.stages.manifest import MANIFEST
from nemo_cot.stages.stage import Output, Source

PARTIAL = ".partial-"
OLD = ".old"
CHUNKS = ".chunks"
HASHES = ".hashes"
"""Folder beside the runs, which share it: digests of big files (nemo_cot.io.hashing)."""
_CHUNK = re.compile(r"/(?=chunk-\d+$)")
_SETS = ("problems/", "problems.sets/")
"""The problems of further sets are stages below another stage, as chunks are."""


class RunDirectory:
    """``path``/STAGE holds a finished stage, STAGE.partial-FINGERPRINT one in progress.

    STAGE.old exists only while a stage is replaced. The chunks of a stage, STAGE/chunk-000 and on, are in
    STAGE.chunks beside it, so that replacing the stage does not touch them; problems/SET in problems.sets. ``reuse``:
    directories of other runs whose finished stages may be reused, in order of preference.
    """

    def __init__(self, path: Path, reuse: Iterable[Path] = ()) -> None:
        self.path = real_path(path)
        others = [RunDirectory(other) for other in dict.fromkeys(reuse)]
        self.reuse = [other for other in others if other.path != self.path]
        self._elsewhere: dict[str, Path] = {}
        self._hasher: Hasher | None = None

    def create(self) -> RunDirectory:
        """Make the directory. Raises OSError as the file system does."""
        self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # only a memory, and a container's mount needs it
            self.hashes.mkdir(exist_ok=True)
        return self

    @property
    def hashes(self) -> Path:
        """The folder of remembered digests."""
        return self.path.parent / HASHES

    def stage(self, name: str) -> Path:
        """The folder of a finished stage; ``name`` may have several parts, such as evaluate/base/chunk-000."""
        return self._elsewhere.get(name) or self.path / _CHUNK.sub(f"{CHUNKS}/", name.replace(*_SETS))

    def read_from(self, name: str, other: RunDirectory) -> None:
        """From now on :meth:`stage` returns the folder of ``other``, for plans, which write nothing."""
        self._elsewhere[name] = other.stage(name)

    def partial(self, name: str, fingerprint: str) -> Path:
        """Where a stage works; one per config, so that returning to a config resumes."""
        return self._beside(name, f"{PARTIAL}{fingerprint[:12]}")

    def partials(self, name: str) -> list[Path]:
        """All partial folders of a stage, latest last."""
        stage = self.stage(name)
        found = matches(stage.parent, glob.escape(stage.name) + PARTIAL + "*")
        return sorted(found, key=changed)

    def old(self, name: str) -> Path:
        """Where a replaced stage stays until it is removed."""
        return self._beside(name, OLD)

    def _beside(self, name: str, suffix: str) -> Path:
        stage = self.stage(name)
        return stage.with_name(stage.name + suffix)

    def artifact(self, stage: str, name: str) -> Path:
        """An output of a finished stage. Raises UserError if that stage has not been run."""
        path = self.stage(stage) / name
        if not path.exists():
            recipe = stage.partition("/")[0]
            raise UserError(
                f"missing: the stage {stage} has not been run",
                where=str(path),
                fix=f"run the chain with `nemo-cot run`, or `python recipes/{recipe}.py`, with the same overrides",
            )
        return path

    def resolve(self, source: Source, label: str = "") -> Path:
        """The path of an input. Raises UserError if it does not exist."""
        if isinstance(source, Output):
            if source.at is None:
                return self.artifact(source.stage, source.file)
            self.artifact(source.stage, MANIFEST)  # that stage checks the external path
        path = source.at if isinstance(source, Output) else source() if callable(source) else source
        if not path.exists():
            raise UserError(f"input {label} is missing", where=str(path), fix="check the path")
        return path

    def also_reuse(self, others: Iterable[Path]) -> None:
        """Add runs whose finished stages may be reused, unless they are known."""
        known = {self.path, *(other.path for other in self.reuse)}
        for other in map(RunDirectory, others):
            if other.path not in known:
                known.add(other.path)
                self.reuse.append(other)
                if self._hasher is not None and other.hashes != self.hashes:
                    self._hasher.learn(other.hashes)

    def hasher(self) -> Hasher:
        """The one hasher of this object, with the memory of this folder of runs and of those to reuse."""
        if self._hasher is None:
            self._hasher = Hasher(self.hashes)
            for folder in {other.hashes for other in self.reuse} - {self.hashes}:
                self._hasher.learn(folder)
        return self._hasher


def stage_of(folder: str) -> str:
    """The stage whose ``folder``, relative to the run, that is."""
    return folder.replace(f"{CHUNKS}/", "/").replace(*reversed(_SETS))


def changed(path: Path) -> float:
    """Time of the last change, seconds since the epoch; 0 for a folder renamed meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
