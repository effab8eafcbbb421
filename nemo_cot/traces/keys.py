"""What the config of curation reads beyond the traces: keys of problems and lineage, marks, evaluation
problems.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot import ROOT
from nemo_cot.config import CurateConfig
from nemo_cot.config.checks import fingerprinted
from nemo_cot.config.marks import MarksConfig
from nemo_cot.io.jsonl import iter_numbered_jsonl
from nemo_cot.records import Trace, row_id
from nemo_cot.traces.filters import load_filters

OWN_KEYS = ("problem_id", "subset_for_metrics", "verdict", "finish_reason", "answer_source")
"""Fields of a trace that curate.subset and curate.balance may name, beside any key of its lineage or its
problem.
"""


def needs_heldout(config: CurateConfig) -> bool:
    """Whether a filter compares traces with the evaluation problems."""
    return any(getattr(f, "needs_heldout", False) for f in load_filters(config.filters).values())


def filter_packages(config: CurateConfig) -> dict[str, str]:
    """Modules that the filters import, and what pip installs them with."""
    found = (getattr(f, "packages", {}) for f in load_filters(config.filters).values())
    return {module: install for packages in found for module, install in packages.items()}


def needs_marks(config: CurateConfig) -> bool:
    """Whether the marks of conf/marks decide about anything."""
    return bool(config.measures) or any(
        getattr(f, "needs_marks", False) for f in load_filters(config.filters).values()
    )


def marks_config(marks: MarksConfig, *, decide: bool = False) -> dict[str, str]:
    """The marks for a stage's fingerprint: their languages and a digest, as lists of words would fill the reasons
    why a stage runs again. Where they only enter its structure.json, the shipped English ones are left out, so that
    stages that finished before there was that file stay valid.
    """
    encode = msgspec.json.encode  # in the order of the lists, which counts
    if not decide and encode((marks.words, marks.shifts)) == _shipped_marks():
        return {}
    digest = hashlib.sha256(encode(fingerprinted(marks))).hexdigest()[:16]
    return {"marks": f"{', '.join(marks.words) or 'none'} {digest}"}


@functools.cache
def _shipped_marks() -> bytes:
    """Words and shifts of conf/marks/english.yaml, as :func:`marks_config` compares them."""
    shipped = msgspec.yaml.decode((ROOT / "conf/marks/english.yaml").read_bytes())
    return msgspec.json.encode((shipped["words"], shipped["shifts"]))


def problem_keys(path: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The columns ``names`` of the problems' own file, by the problem's id, as problems=file reads it."""
    rows = iter_numbered_jsonl(path)
    return {
        row_id(row) or f"{path.stem}-{line}": {k: row[k] for k in names if k in row} for line, row in rows
    }


def named_keys(config: CurateConfig) -> list[str]:
    """The keys that curate.subset and curate.balance name."""
    return [*dict.fromkeys([*config.subset, *([config.balance] if config.balance else [])])]


def key_of(trace: Trace, key: str, problem: Mapping[str, Any] | None = None) -> str | None:
    """The value of ``key`` as text: of :data:`OWN_KEYS` the trace's own, of others see :func:`value_of`."""
    if key in OWN_KEYS:
        return None if (value := getattr(trace, key)) is None else str(value)
    return value_of(key, {}, trace.lineage, problem)


def value_of(key: str, own: Mapping[str, Any], lineage: object, problem: Mapping[str, Any] | None = None) -> str | None:
    """The value of ``key`` as text: ``own``, else of the latest step of the lineage that has it, itself or in the columns
    of the file that it came from, else of its problem's row.
    """
    steps = [step for step in reversed(lineage) if isinstance(step, dict)] if isinstance(lineage, list) else []
    places = (own, *(place for step in steps for place in (step, step.get("source"))), problem)
    value = next((p[key] for p in places if isinstance(p, Mapping) and p.get(key) is not None), None)
    return None if value is None else str(value)
