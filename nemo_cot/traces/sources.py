"""Traces from teachers other than models: procedures and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from nemo_cot.config import FileTeacher, ProceduralTeacher
from nemo_cot.errors import UserError
from nemo_cot.records import Problem, Trace
from nemo_cot.text import TextTokenizer
from nemo_cot.traces.procedural import write_trace
from nemo_cot.traces.rows import SourceRow, folded, source_rows


def procedural_traces(
    problems: Sequence[Problem],
    teacher: ProceduralTeacher,
    tokenizer: TextTokenizer,
    *,
    samples: range,
    seed: int,
) -> Iterator[Trace]:
    """Procedural traces of each problem, with the sample numbers ``samples``."""
    for problem in problems:
        for sample in samples:
            text, style = write_trace(problem, sample, teacher, seed)
            yield _trace(problem, sample, text, tokenizer, {"made_by": "procedural", "style": style})


def file_traces(
    path: Path,
    problems: Sequence[Problem],
    tokenizer: TextTokenizer,
    teacher: FileTeacher,
    counts: Counter[str],
) -> Iterator[Trace]:
    """The traces of ``path`` whose problem is among ``problems``, matched as teacher.match says.

    ``counts``, for the reader of the output: as :func:`source_rows`, and "other problems" for traces of
    others. Raises UserError naming the row for what is not understood, for an id whose problem has another
    text, and if no trace is of one of the problems.
    """
    by_id = {p.problem_id: p for p in problems} if teacher.match == "id" else {}
    by_text = {folded(p.problem): p for p in problems}
    samples: Counter[str] = Counter()
    other: SourceRow | None = None
    for row in source_rows(path, teacher, counts):
        problem, text = by_id.get(row.problem_id or ""), None if row.problem is None else folded(row.problem)
        if problem is not None and text is not None and text != folded(problem.problem):
            raise UserError(
                f"the id {problem.problem_id} is that of {_short(problem.problem)}, the row's problem is {_short(text)}",
                where=row.place,
                fix="correct the id; or teacher.match=text, where the file has ids of its own; or "
                "teacher.columns.problem=null, where the id is right and the text is not",
            )
        problem = problem or by_text.get(text or "")
        if problem is None:
            counts["other problems"] += len(row.solutions)
            other = other or row
            continue
        for solution in row.solutions:
            sample = samples[problem.problem_id]
            samples[problem.problem_id] += 1
            step = {"made_by": "file", **row.step, **solution.step}
            if solution.source:
                step["source"] = solution.source
            yield _trace(
                problem, sample, solution.text, tokenizer, step, finish_reason=solution.finish_reason
            )
    if other is not None and not samples:
        its, own = f"id {other.problem_id}, " if other.problem_id else "", problems[0]
        raise UserError(
            f"no trace is of one of the {len(problems)} training problems; its first is of {its}"
            f"{_short(other.problem or 'no text')}, the first training problem is id {own.problem_id}, {_short(own.problem)}",
            where=other.place,
            fix="take problems and traces that belong together, or problems=from_traces",
        )


def _short(text: str) -> str:
    """The beginning of a problem, for messages."""
    text = folded(text)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _trace(
    problem: Problem,
    sample: int,
    text: str,
    tokenizer: TextTokenizer,
    lineage: dict,
    *,
    finish_reason: str = "stop",
) -> Trace:
    return Trace.of(
        problem,
        sample=sample,
        generation=text,
        num_generated_tokens=len(tokenizer.answer_ids(text)),
        finish_reason=finish_reason,
        lineage=[lineage],
    )
