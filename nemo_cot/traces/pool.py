"""The pool of graded traces, read once for curation, by several processes and with no text kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_cot.config import CurateConfig
from nemo_cot.config.marks import MarksConfig
from nemo_cot.config.model import ModelConfig
from nemo_cot.io.jsonl import no_rows
from nemo_cot.models.format import student_tokenizer
from nemo_cot.records import Problem, Trace
from nemo_cot.traces.candidates import Candidate, Examiner
from nemo_cot.traces.parallel import Line, over_rows
from nemo_cot.traces.structure.profile import Found, Measured

Examined = tuple[Candidate, Found, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Pool:
    """``candidates`` in the file's order; ``shown``: what filters show of them, each once; ``measured``:
    their structure.
    """

    candidates: list[Candidate]
    shown: list[dict[str, Any]]
    measured: Measured


def read_pool(
    path: Path,
    tokenizer: Path,
    model: ModelConfig,
    config: CurateConfig,
    marks: MarksConfig,
    heldout: Sequence[Problem] = (),
    problems: Mapping[str, dict[str, Any]] | None = None,
    folder: Path | None = None,
) -> Pool:
    """All rows of the file as candidates.

    ``tokenizer``: the folder with tokenizer.json. ``problems``: further keys, by the problem's id. Raises
    UserError for a bad row, and for none.
    """
    candidates: list[Candidate] = []
    shown: dict[str, dict[str, Any]] = {}
    arguments = (tokenizer, model, config, marks, list(heldout), dict(problems or {}))
    measured = Measured.empty(marks)
    for candidate, found, rows in over_rows(path, Trace, _examiner, arguments, label="curate", folder=folder):
        candidates.append(candidate)
        measured.add(found)
        for key, row in rows.items():  # the processes do not know what the others have shown
            shown.setdefault(key, row)
    if not candidates:
        raise no_rows(path)
    return Pool(candidates, list(shown.values()), measured)


def _examiner(
    tokenizer: Path,
    model: ModelConfig,
    config: CurateConfig,
    marks: MarksConfig,
    heldout: list[Problem],
    problems: dict[str, dict[str, Any]],
) -> Callable[[list[Line]], list[Examined]]:
    student = student_tokenizer(model, tokenizer)
    examiner = Examiner(config, marks, heldout, problems)

    def work(lines: list[Line]) -> list[Examined]:
        lengths = student.answer_lengths([line.row.generation for line in lines])
        found: list[Examined] = []
        for (trace, offset, row), length in zip(lines, lengths):
            found.append((*examiner.found(trace, length, row, offset), examiner.context.shown))
            examiner.context.shown = {}
        return found

    return work
