"""Sampling in chunks: each draws a part of the samples of every problem, then one stage merges them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import count_lines, iter_numbered_jsonl, read_jsonl, write_jsonl
from nemo_cot.records import Problem, Trace
from nemo_cot.stages import Earlier, Output, RunDirectory, Source, Stage
from nemo_cot.stages.publish import SCRATCH
from nemo_cot.stages.stage import EARLIER

GENERATIONS = "generations.jsonl"
_BATCHED = "the embedded engine draws in batches, and each chunk has its own"
_ALL_AGAIN = "the embedded engine draws in batches, so all are drawn again"


@dataclass(frozen=True)
class Sampling:
    """What is sampled, and in how many chunks. ``work(folder, inputs, samples)`` writes generations.jsonl with
    the samples of those numbers of every problem, in the problems' order. ``inputs`` holds problems.

    A sample depends on its own number and seed alone, so how it was chunked takes no part in the
    fingerprint of the whole; except with an engine that draws ``batches``, where a sample depends on those beside it.
    And so those that a finished stage has are kept when there are to be more of them, or fewer. ``samples_key``: the
    dotted key of ``config`` that holds their number; None where they come all at once. ``server``: as in Stage.
    """

    name: str
    inputs: Mapping[str, Source]
    config: dict[str, Any]
    work: Callable[[Path, Mapping[str, Path], range], None]
    samples: int
    samples_key: str | None
    chunks: int
    resumable: bool
    batches: bool
    resources: str
    look: Callable[[RunDirectory], None] | None = None
    server: Any = None

    def stages(self) -> Iterator[Stage]:
        """One stage; or one per chunk, and the one that merges them."""
        config, notes = self.config, {}
        if self.batches:
            config = {**config, "chunks": self.chunks}
            notes = {"chunks": _BATCHED, **({self.samples_key: _ALL_AGAIN} if self.samples_key else {})}
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

        yield Stage(
            self.name, self.inputs, config, merge, (GENERATIONS,), parts=parts, notes=notes, earlier=self._earlier
        )

    def _stage(self, name: str, config: dict[str, Any], samples: range, notes: dict[str, str]) -> Stage:
        return Stage(
            name,
            self.inputs,
            config,
            lambda folder, inputs: self._draw(folder, inputs, samples),
            (GENERATIONS,),
            earlier=self._earlier,
            resumable=self.resumable,
            look=self.look,
            notes=notes,
            resources=self.resources,
            server=self.server and (self.server, self.chunks),
        )

    @property
    def _earlier(self) -> Earlier | None:
        """The whole stage with another number of samples, which begins with the same ones."""
        if self.batches or self.samples_key is None:
            return None
        return Earlier(self.name, self.config, self.samples_key)

    def _draw(self, folder: Path, inputs: Mapping[str, Path], samples: range) -> None:
        """Write the ``samples`` of every problem: those of an earlier result as they are, the others drawn."""
        if (earlier := inputs.get(EARLIER)) is None:
            self.work(folder, inputs, samples)
            return
        problems = read_jsonl(inputs["problems"], Problem)
        there = count_lines(earlier / GENERATIONS) // len(problems)
        first_new = min(max(there, samples.start), samples.stop)
        kept, new = range(samples.start, first_new), range(first_new, samples.stop)
        print(f"  {len(kept)} of {len(samples)} samples per problem are kept, {len(new)} are drawn", flush=True)
        parts, scratch = [(folder / SCRATCH / "kept.jsonl", kept)], folder / SCRATCH
        scratch.mkdir(exist_ok=True)
        rows = (row for _, row in iter_numbered_jsonl(earlier / GENERATIONS, Trace))
        write_jsonl(parts[0][0], (row for row in rows if row.sample in kept))
        if new:
            drawn = scratch / f"drawn-{new.start}-{new.stop}.jsonl"
            if not drawn.exists():
                self.work(folder, inputs, new)
                (folder / GENERATIONS).rename(drawn)
            parts.append((drawn, new))
        write_jsonl(folder / GENERATIONS, merged(parts, problems))


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
