"""The traces of a run as a data set that Hugging Face `datasets` loads: one row per trace, every column a
plain value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.export.card import write_card
from nemo_cot.export.folder import new_folder
from nemo_cot.io.jsonl import count_lines, iter_jsonl, write_jsonl
from nemo_cot.io.tables import PACKAGES
from nemo_cot.progress import tracked
from nemo_cot.records import Trace
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import Manifest

_AS_JSON = ("lineage", "source", "scorer_data")
"""Columns with JSON as text: what is in them differs from row to row."""
_BATCH = 256


class _Selected(msgspec.Struct):
    """What is read of selection.jsonl."""

    problem_id: str
    sample: int
    chosen: bool
    rule: str
    rank: int | None = None
    measures: dict[str, float | None] = msgspec.field(default_factory=dict)


def export_dataset(
    run: RunDirectory, manifests: Mapping[str, Manifest], target: Path, *, format: str, pool: bool
) -> dict[str, int]:
    """Write data/train.FORMAT (the traces that are trained on) and README.md; with ``pool``
    data/pool.FORMAT, all graded traces with what became of each. Returns the rows by file.

    Raises UserError if there are no chosen traces, ``target`` is there already, or a package is missing.
    """
    trained, curated = trained_traces(run, manifests), manifests.get("curate")
    with new_folder(target) as folder:
        (folder / "data").mkdir()
        traces = list(iter_jsonl(trained, Trace))
        if not traces:
            raise UserError("there are no traces", where=str(trained), fix="run the chain up to curate")
        tables = {"train": columns()}
        rows = {
            "train": _write(
                folder / f"data/train.{format}", (_row(t) for t in traces), tables["train"], trained
            )
        }
        if pool:
            if curated is None:
                raise UserError(
                    "there is no pool without the stage curate",
                    where=str(run.path),
                    fix="run curate, or leave --pool out",
                )
            path = run.path / curated.inputs["graded"].path
            selected, measures = _selection(run, traces)
            made = (_pool_row(trace, selected, measures) for trace in iter_jsonl(path, Trace))
            tables["pool"] = columns(measures=measures)
            rows["pool"] = _write(folder / f"data/pool.{format}", made, tables["pool"], path)
        write_card(
            folder, "dataset", manifests, name=run.path.name, rows=rows, format=format, tables=tables,
            verdicts=Counter(str(t.verdict) for t in traces), sources=_sources(traces),
            lengths=sorted(t.num_student_tokens or t.num_generated_tokens for t in traces),
            problems=len({t.problem_id for t in traces}), dropped=_dropped(run),
        )  # fmt: skip
    return rows


def trained_traces(run: RunDirectory, manifests: Mapping[str, Manifest]) -> Path:
    """The file that the packs were made of; where there are none, that of curate."""
    if (pack := manifests.get("pack")) and "traces" in pack.inputs:
        return run.path / pack.inputs["traces"].path
    return run.artifact("curate", "traces.jsonl")


def columns(*, measures: Sequence[str] | None = None) -> dict[str, str]:
    """The columns and their types, as pyarrow and datasets name them; ``measures``: those of the pool.

    They are stated in the card: a column without a value in its first rows would have no type of its own.
    """
    hints = get_type_hints(Trace)
    plain = {
        name: (get_args(hints[name]) or (hints[name],))[0]
        for name in Trace.__struct_fields__
        if name not in _AS_JSON
    }
    types = {name: {str: "string", int: "int64", bool: "bool"}[kind] for name, kind in plain.items()}
    types |= dict.fromkeys(_AS_JSON, "string")
    if measures is not None:
        types |= {"chosen": "bool", "rule": "string", "rank": "int64"}
        types |= {f"measure_{name}": "float64" for name in measures}
    return types


def _row(trace: Trace) -> dict[str, Any]:
    """The fields of the trace, all of them, with lineage and the file's own columns as JSON text."""
    fields = {name: getattr(trace, name) for name in Trace.__struct_fields__ if name not in _AS_JSON}
    return fields | {name: msgspec.json.encode(getattr(trace, name)).decode() for name in _AS_JSON}


def _selection(
    run: RunDirectory, chosen: Sequence[Trace]
) -> tuple[dict[tuple[str, int], _Selected], list[str]]:
    """What curate wrote of each trace of the pool, and the names of the measures. A run of before has no
    such file: then only what was chosen is known.
    """
    path = run.stage("curate") / "selection.jsonl"
    if path.exists():
        found = list(iter_jsonl(path, _Selected))
    else:
        found = [_Selected(t.problem_id, t.sample, True, "chosen", rank) for rank, t in enumerate(chosen)]
    return {(s.problem_id, s.sample): s for s in found}, sorted({name for s in found for name in s.measures})


def _pool_row(
    trace: Trace, selected: Mapping[tuple[str, int], _Selected], measures: Sequence[str]
) -> dict[str, Any]:
    found = selected.get((trace.problem_id, trace.sample), _Selected("", 0, False, "not chosen"))
    own = {f"measure_{name}": found.measures.get(name) for name in measures}
    return _row(trace) | {"chosen": found.chosen, "rule": found.rule, "rank": found.rank} | own


def _sources(traces: Sequence[Trace]) -> list[str]:
    """Who made the traces, by the first step of their lineage, with the file's own columns."""
    made = Counter(
        ", ".join([str(t.lineage[0].get("made_by")), *(f"{k} {v}" for k, v in t.source.items())])
        for t in traces
        if t.lineage
    )
    return [f"{who}: {count}" for who, count in made.most_common(20)]


def _dropped(run: RunDirectory) -> dict[str, int]:
    path = run.stage("curate") / "dropped.json"
    return msgspec.json.decode(path.read_bytes(), type=dict[str, int]) if path.exists() else {}


def _write(path: Path, rows: Iterator[dict[str, Any]], types: Mapping[str, str], source: Path) -> int:
    """Write the rows, made of those of ``source``, with a progress bar; returns their number."""
    rows = tracked(rows, f"export {path.stem}", count_lines(source), "rows")
    return write_jsonl(path, rows) if path.suffix == ".jsonl" else _parquet(path, rows, types)


def _parquet(path: Path, rows: Iterator[dict[str, Any]], types: Mapping[str, str]) -> int:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        (name, install), *_ = PACKAGES["parquet"].items()
        fix = f"pip install {install}, or --format jsonl"
        raise UserError(f"the package {name} is not installed", where="--format parquet", fix=fix) from None
    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in types.items()])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, _BATCH)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count
