"""Traces from teachers other than models: procedures and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from nemo_cot.config import ProceduralTeacher
from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import iter_numbered_jsonl
from nemo_cot.records import Problem, Trace, row_id
from nemo_cot.text import TextTokenizer
from nemo_cot.traces.procedural import write_trace


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


def file_traces(path: Path, problems: Sequence[Problem], tokenizer: TextTokenizer) -> Iterator[Trace]:
    """The traces of ``path`` whose problem is among ``problems``, matched by id, else by text.

    Raises UserError naming the row for a missing generation or an unknown problem.
    """
    by_id = {p.problem_id: p for p in problems}
    by_text = {" ".join(p.problem.split()): p for p in problems}
    samples: Counter[str] = Counter()
    for line, row in iter_numbered_jsonl(path):
        problem = by_id.get(row_id(row) or "") or by_text.get(" ".join(str(row.get("problem")).split()))
        where = f"{path}, line {line}"
        if problem is None:
            raise UserError(
                "its problem is not among the training problems",
                where=where,
                fix="give problem_id (or id, or the same problem text) as in problems/train.jsonl",
            )
        if not isinstance(row.get("generation"), str):
            raise UserError(
                "generation is missing or not text", where=f"{where}, field generation", fix="add it as text"
            )
        sample = samples[problem.problem_id]
        samples[problem.problem_id] += 1
        yield _trace(
            problem,
            sample,
            row["generation"],
            tokenizer,
            {"made_by": "file", "line": line},
            finish_reason=str(row.get("finish_reason") or "stop"),
        )


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
