"""NeMo-Skills' files: its input, its output-rs*.jsonl, repaired and checked before they are trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import drop_cut_line, iter_numbered_jsonl, write_jsonl
from nemo_cot.records import Problem, Trace
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.sampling.limits import cut_early
from nemo_cot.sampling.openai.replies import FINISH_REASONS, miscounted

ASYNC = "-async"
"""Suffix of an output file while it is written, in the order of completion."""
_POSITION = "_async_position"


class _Row(msgspec.Struct):
    """What is read of an output row: everything else is dropped, serialized_output first of all."""

    id: str | int | None = None
    problem: str | None = None
    generation: str | None = None
    num_generated_tokens: int | None = None
    finish_reason: str | None = None
    predicted_answer: str | None = None
    symbolic_correct: bool | None = None
    async_position: int | None = msgspec.field(default=None, name=_POSITION)


def output_file(folder: Path, seed: int) -> Path:
    """Where NeMo-Skills writes the samples of one seed, by its own naming."""
    return folder / f"output-rs{seed}.jsonl"


def write_input(path: Path, job: SamplingJob, messages: Sequence[Any]) -> None:
    """The problems with NeMo-Skills' key names; ``messages``: for each a chat or a rendered prompt."""
    write_jsonl(
        path,
        (
            {
                "id": problem.problem_id,
                "problem": problem.problem,
                "expected_answer": problem.expected_answer,
                "subset_for_metrics": problem.subset_for_metrics,
                "messages": sent,
            }
            for problem, sent in zip(job.problems, messages, strict=True)
        ),
    )


def repair(path: Path, problems: Sequence[Problem]) -> str:
    """Make the files of one seed fit to resume from: "done", "resume" or "start".

    NeMo-Skills takes any final file for a finished one, also a short one, and ends with an error
    at a cut line of an unfinished one. So a final file that is not whole is thrown out, and a cut
    line is dropped; a file that does not belong to these problems is thrown out as a whole.
    """
    unfinished = path.with_name(path.name + ASYNC)
    if path.exists():
        if (trouble := trouble_of(path, problems)) is None:
            unfinished.unlink(missing_ok=True)
            return "done"
        print(f"  {path.name}: {trouble}; sampled again", flush=True)
        path.unlink()
    drop_cut_line(unfinished)
    if unfinished.exists() and not _fits(unfinished, problems):
        print(f"  {unfinished.name}: does not belong to these problems; sampled again", flush=True)
        unfinished.unlink()
    return "resume" if unfinished.exists() and unfinished.stat().st_size else "start"


def trouble_of(path: Path, problems: Sequence[Problem]) -> str | None:
    """Why a final file is not the samples of ``problems``, in their order; None when it is."""
    try:
        rows = [row for _, row in iter_numbered_jsonl(path, _Row)]
    except UserError as error:
        return f"{error.where}: {error.what}"
    if len(rows) != len(problems):
        return f"{len(rows)} rows for {len(problems)} problems"
    for number, (row, problem) in enumerate(zip(rows, problems), start=1):
        if row.id is None or str(row.id) != problem.problem_id or row.generation is None:
            return f"line {number} is not the sample of problem {problem.problem_id}"
    return None


def _fits(unfinished: Path, problems: Sequence[Problem]) -> bool:
    """Whether every row is of the problem at its position, and none is there twice."""
    try:
        rows = [row for _, row in iter_numbered_jsonl(unfinished, _Row)]
    except UserError:
        return False
    positions = [row.async_position for row in rows]
    return len(set(positions)) == len(positions) and all(
        row.async_position is not None
        and 0 <= row.async_position < len(problems)
        and str(row.id) == problems[row.async_position].problem_id
        for row in rows
    )


class RowCounter:
    """Counts the lines of one seed's file as it grows, reading only what is new."""

    def __init__(self, path: Path) -> None:
        self._paths = (path.with_name(path.name + ASYNC), path)
        self._read, self.rows = [0, 0], [0, 0]

    def count(self) -> int:
        """Lines so far, in the unfinished file or the final one."""
        for index, path in enumerate(self._paths):
            try:
                with open(path, "rb") as handle:
                    if handle.seek(0, 2) < self._read[index]:
                        self._read[index] = self.rows[index] = 0
                    handle.seek(self._read[index])
                    new = handle.read()
            except FileNotFoundError:
                continue
            self._read[index] += len(new)
            self.rows[index] += new.count(b"\n")
        return max(self.rows)


def read_seed(path: Path, job: SamplingJob, sample: int) -> list[Trace]:
    """The traces of one seed's finished file, in the order of the problems; NeMo-Skills' own answer
    and verdict are kept where it graded. Raises UserError for a file that is not whole, and for an answer that the
    server cut before the limit that was asked for.
    """
    if (trouble := trouble_of(path, job.problems)) is not None:
        raise UserError(trouble, where=str(path), fix=f"remove {path} and run the same command again")
    rows = iter_numbered_jsonl(path, _Row)
    return [_trace(path, line, row, problem, job, sample) for (line, row), problem in zip(rows, job.problems)]


def _trace(path: Path, line: int, row: _Row, problem: Problem, job: SamplingJob, sample: int) -> Trace:
    text, tokens, trouble, fix = row.generation or "", row.num_generated_tokens, None, ""
    if tokens is None or row.finish_reason not in FINISH_REASONS:
        trouble = f"num_generated_tokens is {tokens}, finish_reason {row.finish_reason!r}"
    elif (wrong := miscounted(text, tokens, job.sampling.max_new_tokens)) is not None:
        trouble = f"num_generated_tokens is {wrong}"
    elif row.finish_reason == "length":
        early = cut_early(tokens, job.sampling.max_new_tokens, prompt=None, context=None)
        trouble, fix = (early[0], f"{early[1]}; then ") if early else (None, "")
    if tokens is None or trouble is not None:
        raise UserError(
            trouble or "",
            where=f"{path}, line {line}",
            fix=f"{fix}remove {path} and run the same command again",
        )
    return job.trace(
        problem,
        sample,
        text,
        tokens,
        row.finish_reason,
        nemo_skills_answer=row.predicted_answer,
        symbolic_correct=row.symbolic_correct,
    )


def in_problem_order(seeds: Iterable[list[Trace]]) -> Iterator[Trace]:
    """Traces of several seeds (each in the problems' order) as generations.jsonl has them."""
    for of_one_problem in zip(*seeds, strict=True):
        yield from of_one_problem
