"""Sampling in chunks: each draws a part of the samples of every problem, then one stage merges them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nemo_cot.config.engines import EndpointEngine, EngineConfig
from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import iter_numbered_jsonl, read_jsonl, write_jsonl
from nemo_cot.records import Problem, Trace
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.stages.engine import is_finished

GENERATIONS = "generations.jsonl"
_BATCHED = "the embedded engine draws in batches, and each chunk has its own"


@dataclass(frozen=True)
class Sampling:
    """What is sampled, and in how many chunks. ``work(folder, samples)`` writes generations.jsonl with
    the samples of those numbers of every problem, in the problems' order. ``inputs`` holds problems.

    A sample depends on its own number and seed alone, so how it was chunked takes no part in the
    fingerprint of the whole; except with an engine that draws ``batches`` (:func:`draws_batches`).
    """

    name: str
    inputs: dict[str, Path]
    config: dict[str, Any]
    work: Callable[[Path, range], None]
    samples: int
    chunks: int
    chunk: int | None
    resumable: bool
    batches: bool

    def stages(self, run: RunDirectory) -> Iterator[Stage]:
        """One stage; or one a chunk and the merge; or only the chunk that is asked for.

        The whole alone where it is finished already, here or in a run to adopt it from, in whatever chunks.
        """
        whole = self._whole()
        if self.chunks == 1 or is_finished(whole, run):
            yield whole
            return
        for chunk in range(self.chunks) if self.chunk is None else [self.chunk]:
            yield self._chunk(chunk)
        if self.chunk is None:
            yield self._merge(whole, run)

    def _whole(self) -> Stage:
        config, notes = self.config, {}
        if self.batches:
            config, notes = {**config, "chunks": self.chunks}, {"chunks": _BATCHED}
        samples = self._samples(range(self.samples))
        return Stage(self.name, self.inputs, config, samples, resumable=self.resumable, notes=notes)

    def _chunk(self, chunk: int) -> Stage:
        samples = chunk_samples(self.samples, self.chunks, chunk)
        config = {**self.config, "chunks": self.chunks, "chunk": chunk}
        name = chunk_stage(self.name, chunk)
        return Stage(name, self.inputs, config, self._samples(samples), resumable=self.resumable)

    def _samples(self, samples: range) -> Callable[[Path], None]:
        return lambda folder: self.work(folder, samples)

    def _merge(self, whole: Stage, run: RunDirectory) -> Stage:
        """The stage ``whole`` out of its chunks, which its manifest keeps."""
        names = [chunk_stage(self.name, chunk) for chunk in range(self.chunks)]
        files = {name.rpartition("/")[2]: run.artifact(name, GENERATIONS) for name in names}
        problems = self.inputs["problems"]

        def work(folder: Path) -> None:
            parts = [
                (path, chunk_samples(self.samples, self.chunks, chunk))
                for chunk, path in enumerate(files.values())
            ]
            write_jsonl(folder / GENERATIONS, merged(parts, read_jsonl(problems, Problem)))

        return replace(whole, work=work, resumable=False, parts=files)


def draws_batches(engine: EngineConfig) -> bool:
    """Whether a sample's bits depend on those drawn beside it; a server takes a seed a sample."""
    return not isinstance(engine, EndpointEngine)


def chunk_stage(name: str, chunk: int) -> str:
    """The name of a chunk's stage, such as generate/chunk-000."""
    return f"{name}/chunk-{chunk:03d}"


def chunk_samples(samples: int, chunks: int, chunk: int) -> range:
    """The sample numbers (of 0 to ``samples`` - 1) that a chunk draws of every problem."""
    return range(samples * chunk // chunks, samples * (chunk + 1) // chunks)


def merged(parts: Sequence[tuple[Path, range]], problems: Sequence[Problem]) -> Iterator[Trace]:
    """The rows of all ``parts`` (file, its sample numbers) in the order of a run without chunks.

    Raises UserError for a row that is missing, in excess, or not the one that should stand there.
    """
    readers = [(path, samples, iter_numbered_jsonl(path, Trace)) for path, samples in parts]
    for problem in problems:
        for path, samples, reader in readers:
            for sample in samples:
                line, row = next(reader, (0, None))
                if row is None or (row.problem_id, row.sample) != (problem.problem_id, sample):
                    raise _unexpected(path, line, f"problem {problem.problem_id}, sample {sample}")
                yield row
    for path, _, reader in readers:
        if extra := next(reader, None):
            raise _unexpected(path, extra[0], "the end of the file")


def _unexpected(path: Path, line: int, expected: str) -> UserError:
    where = f"{path}, line {line}" if line else f"{path}, at its end"
    return UserError(
        f"expected {expected}", where=where, fix=f"remove {path.parent} and run the same command again"
    )
