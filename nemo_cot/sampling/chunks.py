"""Sampling in chunks: each draws a part of the samples of every problem, then one stage merges them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import iter_numbered_jsonl, read_jsonl, write_jsonl
from nemo_cot.records import Problem, Trace
from nemo_cot.stages import Output, RunDirectory, Source, Stage

GENERATIONS = "generations.jsonl"
_BATCHED = "the embedded engine draws in batches, and each chunk has its own"


@dataclass(frozen=True)
class Sampling:
    """What is sampled, and in how many chunks. ``work(folder, inputs, samples)`` writes generations.jsonl with
    the samples of those numbers of every problem, in the problems' order. ``inputs`` holds problems.

    A sample depends on its own number and seed alone, so how it was chunked takes no part in the
    fingerprint of the whole; except with an engine that draws ``batches``, where a sample depends on those beside it.
    """

    name: str
    inputs: Mapping[str, Source]
    config: dict[str, Any]
    work: Callable[[Path, Mapping[str, Path], range], None]
    samples: int
    chunks: int
    resumable: bool
    batches: bool
    resources: str
    look: Callable[[RunDirectory], None] | None = None

    def stages(self) -> Iterator[Stage]:
        """One stage; or one per chunk, and the one that merges them."""
        config, notes = self.config, {}
        if self.batches:
            config, notes = {**config, "chunks": self.chunks}, {"chunks": _BATCHED}
        if self.chunks == 1:
            yield self._stage(self.name, config, range(self.samples), notes)
            return
        names = [chunk_stage(self.name, chunk) for chunk in range(self.chunks)]
        ranges = [chunk_samples(self.samples, self.chunks, chunk) for chunk in range(self.chunks)]
        for chunk, (name, samples) in enumerate(zip(names, ranges)):
            yield self._stage(name, {**self.config, "chunks": self.chunks, "chunk": chunk}, samples, {})
        parts = {name.rpartition("/")[2]: Output(name, GENERATIONS) for name in names}

        def merge(folder: Path, inputs: Mapping[str, Path]) -> None:
            files = [(inputs[label], samples) for label, samples in zip(parts, ranges)]
            write_jsonl(folder / GENERATIONS, merged(files, read_jsonl(inputs["problems"], Problem)))

        yield Stage(self.name, self.inputs, config, merge, (GENERATIONS,), parts=parts, notes=notes)

    def _stage(self, name: str, config: dict[str, Any], samples: range, notes: dict[str, str]) -> Stage:
        return Stage(
            name,
            self.inputs,
            config,
            lambda folder, inputs: self.work(folder, inputs, samples),
            (GENERATIONS,),
            resumable=self.resumable,
            look=self.look,
            notes=notes,
            resources=self.resources,
        )


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
