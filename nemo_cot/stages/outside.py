"""Hash what GPU jobs read from outside of the run, such as a teacher of 65 GB, before they are submitted."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.progress import track
from nemo_cot.stages.rundir import RunDirectory
from nemo_cot.stages.stage import Output, Stage

_GIB = 2**30
_THREADS = 8


def hash_outside(stages: Iterable[Stage], run: RunDirectory) -> None:
    """Remember the digests of the files outside of ``run`` that ``stages`` read, so that no job that holds GPUs
    hashes them. A model that a stage checks and others use in place is hashed by that stage, which holds none.
    """
    hasher, unknown = run.hasher(), {}
    for path in _outside(stages, run):
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        unknown |= {file: file.stat().st_size for file in files if not hasher.knows(file)}
    done, total = 0, sum(unknown.values())
    with ThreadPoolExecutor(_THREADS) as pool, track("hash models", round(total / _GIB), "GiB") as tracker:
        for size, _ in zip(unknown.values(), pool.map(hasher.sha256, unknown)):
            done += size
            if total >= _GIB:
                tracker.update(round(done / _GIB))


def _outside(stages: Iterable[Stage], run: RunDirectory) -> list[Path]:
    found: dict[Path, None] = {}
    for stage in stages:
        for label, source in stage.inputs.items():
            if stage.resources == "cpu" or isinstance(source, Output):
                continue
            try:
                found[run.resolve(source, label)] = None
            except UserError:
                continue  # the stage reports it
    return list(found)
