"""Trace files as tests make them, and reading them without a model."""

from __future__ import annotations

import functools
import json
from collections import Counter
from pathlib import Path

from nemo_cot.config import FileTeacher
from nemo_cot.experiment.compose import load_config
from nemo_cot.records import Problem, Trace
from nemo_cot.traces.sources import file_traces

PROBLEMS = [Problem(problem_id=f"p{n}", problem=f"What is {n} + 1?", expected_answer=str(n + 1)) for n in range(3)]


class Uncounted:
    """Stands in for the student's tokenizer: a token per character."""

    def answer_ids(self, answer: str) -> list[int]:
        return [0] * len(answer)


@functools.cache
def teacher(*overrides: str) -> FileTeacher:
    """The config of teacher=file, or of another file of conf/teacher that is named first."""
    chosen = [] if overrides and overrides[0].startswith("teacher=") else ["teacher=file"]
    found = load_config([*chosen, "teacher.path=not-read", *overrides]).teacher
    assert isinstance(found, FileTeacher)
    return found


def read(path: Path, *overrides: str, counts: Counter[str] | None = None) -> list[Trace]:
    """The traces of PROBLEMS in ``path``."""
    return list(file_traces(path, PROBLEMS, Uncounted(), teacher(*overrides), Counter() if counts is None else counts))


def write(path: Path, rows: list[dict]) -> Path:
    """``rows`` in the format that the name of ``path`` says; a folder becomes a saved dataset."""
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        import csv

        with open(path, "w", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        import datasets

        datasets.disable_progress_bars()
        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    return path
