"""Rows of tables as users have them: JSON lines, JSON, CSV, parquet, saved Hugging Face datasets, folders
of files.

One reader per format, in :data:`READERS`. What a row holds is untrusted: its keys and values are of any kind.
"""

from __future__ import annotations

import csv
import importlib
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.io.jsonl import count_lines, iter_numbered_jsonl, open_binary, refuse_repeated_keys

PACKAGES = {
    "parquet": {"pyarrow": "-e '.[data]' in the clone"},
    "saved": {"datasets": "-e '.[data]' in the clone"},
}
"""By format, what reading it imports, and what pip installs that with."""
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_SPLITS = ("train", "validation", "test")
"""Files of these names in one folder are parts that nobody wants mixed."""
_SHARD = re.compile(r"(.+)-\d+-of-\d+")
_SAVED = ("state.json", "dataset_dict.json")
"""What Dataset.save_to_disk and DatasetDict.save_to_disk leave in their folder."""
_REMAKE = "make the file again, or download it again"


class Row(NamedTuple):
    """``place``: where it stands, for errors, such as "data.jsonl, line 3"; ``step``: the same for the
    lineage.

    ``keys``: all columns that there are; ``values`` may hold only the wanted ones.
    """

    place: str
    step: dict[str, Any]
    keys: Sequence[str]
    values: dict[str, Any]


def read_table(
    path: Path, *, format: str = "auto", split: str | None = None, columns: Collection[str] = ()
) -> Iterator[Row]:
    """The rows of ``path``, a file or a folder. ``format``: a key of :data:`READERS`, or auto, by the name
    (JSON lines for any other). ``split``: of a folder, the files or the part so named. ``columns``: those
    that are used, where the format can leave the others unread.

    Raises UserError with file, row and fix for anything that cannot be read, and for a package that is
    missing.
    """
    kind = table_format(path, format)
    if kind == "folder":
        for part in _parts(path, split):
            for row in read_table(part, format=format, columns=columns):
                name = part.relative_to(path).as_posix()
                yield row._replace(step={"file": name, **row.step})
        return
    if split is not None and kind != "saved":
        raise UserError(f"{split!r}: a file has no splits", where=str(path), fix="leave teacher.split out")
    yield from READERS[kind](path, split, columns)


def table_format(path: Path, format: str = "auto") -> str:
    """What ``path`` is read as: a key of :data:`READERS`, or "folder" for one of several files."""
    if path.is_dir():
        return (
            "saved"
            if format in ("auto", "saved") and any((path / name).exists() for name in _SAVED)
            else "folder"
        )
    return _SUFFIXES.get(path.suffix.lower(), "jsonl") if format == "auto" else format


def num_rows(path: Path, format: str) -> int | None:
    """The rows of ``path``, where they can be counted without being read; None for other formats."""
    return count_lines(path) if table_format(path, format) == "jsonl" else None


def table_packages(path: Path, format: str, split: str | None) -> dict[str, str]:
    """The modules that reading ``path`` imports, with what pip installs; none for what cannot be read anyway."""
    kind = table_format(path, format)
    try:
        kinds = {table_format(part, format) for part in _parts(path, split)} if kind == "folder" else {kind}
    except UserError:
        return {}
    return {name: install for each in kinds for name, install in PACKAGES.get(each, {}).items()}


def _parts(folder: Path, split: str | None) -> list[Path]:
    """The files of ``folder`` that can be read, output-rs2 before output-rs10."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in _SUFFIXES]
    files = [p for p in files if not any(name.startswith(".") for name in p.relative_to(folder).parts)]
    splits = {path: _SHARD.fullmatch(path.stem) for path in files}
    names = sorted(
        {found[1] for found in splits.values() if found} | {p.stem for p in files if p.stem in (split, *_SPLITS)}
    )
    if split is None and len(names) > 1:
        raise UserError(
            f"holds the splits {', '.join(names)}",
            where=str(folder),
            fix=f"choose one: teacher.split={names[0]}",
        )
    if split is not None:
        files = [p for p in files if split == (found[1] if (found := splits[p]) else p.stem)]
    if not files:
        wanted = f"the split {split}" if split else f"a {', '.join(_SUFFIXES)} file"
        has = f"; it has {', '.join(names[:9])}" if names else ""
        raise UserError(
            f"the folder does not hold {wanted}{has}", where=str(folder), fix="correct the path or the split"
        )
    return sorted(
        files, key=lambda p: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(p))]
    )


def _jsonl(path: Path, split: str | None, columns: Collection[str]) -> Iterator[Row]:
    for line, values in iter_numbered_jsonl(path, unique_keys=True):
        yield Row(f"{path}, line {line}", {"line": line}, list(values), values)


def _json(path: Path, split: str | None, columns: Collection[str]) -> Iterator[Row]:
    """One array of objects; else JSON lines, which many a set calls .json."""
    with open_binary(path) as handle:
        data = handle.read().removeprefix(b"\xef\xbb\xbf")
    if not data.lstrip().startswith(b"["):
        yield from _jsonl(path, split, columns)
        return
    try:
        rows = msgspec.json.decode(data, type=list[dict])
        refuse_repeated_keys(data)
    except DAMAGED as error:
        raise UserError(
            f"{error}", where=str(path), fix="correct it: one array of objects, or JSON lines"
        ) from None
    for number, values in enumerate(rows, start=1):
        yield Row(f"{path}, row {number}", {"row": number}, list(values), values)


def _csv(path: Path, split: str | None, columns: Collection[str]) -> Iterator[Row]:
    """With a header; every value is text."""
    csv.field_size_limit(sys.maxsize)
    line = 0
    try:
        with open_binary(path):
            pass  # its errors name the fix
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            keys = next(reader, [])
            if repeated := next((key for key, same in groupby(sorted(keys)) if len(list(same)) > 1), None):
                raise ValueError(f"the header has {repeated!r} twice")
            line = reader.line_num
            for cells in reader:
                if cells and len(cells) != len(keys):
                    raise ValueError(f"{len(cells)} cells, where the header has {len(keys)}")
                first, line = line + 1, reader.line_num
                if cells:
                    yield Row(f"{path}, line {first}", {"line": first}, keys, dict(zip(keys, cells)))
    except (csv.Error, ValueError) as error:
        fix = "correct or remove this row; save the file as UTF-8 with one header"
        raise UserError(f"{error}", where=f"{path}, line {line + 1}", fix=fix) from None


def _parquet(path: Path, split: str | None, columns: Collection[str]) -> Iterator[Row]:
    parquet, number = _package("parquet", "pyarrow.parquet", path), 0
    with open_binary(path) as handle:
        try:
            table = parquet.ParquetFile(handle)
            keys = list(table.schema_arrow.names)
            wanted = [key for key in keys if key in columns or not columns]
            for batch in table.iter_batches(batch_size=64, columns=wanted) if wanted else ():
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}, row {number}", {"row": number}, keys, values)
            if not wanted and table.metadata.num_rows:
                yield Row(f"{path}, row 1", {"row": 1}, keys, {})
        except (*DAMAGED, OSError, KeyError, NotImplementedError) as error:  # pyarrow's own are among them
            where = f"{path}, row {number + 1}" if number else str(path)
            raise UserError(f"not a whole parquet file ({error})", where=where, fix=_REMAKE) from None


def _saved(path: Path, split: str | None, columns: Collection[str]) -> Iterator[Row]:
    datasets = _package("saved", "datasets", path)
    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever a damaged arrow file or JSON makes datasets raise
        raise UserError(f"not a whole saved dataset ({error})", where=str(path), fix=_REMAKE) from None
    if isinstance(loaded, datasets.DatasetDict):
        names = list(loaded)
        if (chosen := split or names[0]) not in loaded or (split is None and len(names) > 1):
            what = f"holds the splits {', '.join(names)}" + (f", not {split}" if split else "")
            raise UserError(what, where=str(path), fix=f"choose one: teacher.split={names[0]}")
        loaded = loaded[chosen]
    elif split is not None:
        raise UserError(
            f"{split!r}: one saved dataset has no splits", where=str(path), fix="leave teacher.split out"
        )
    keys = list(loaded.column_names)
    wanted = [key for key in keys if key in columns or not columns]
    table = (
        loaded.with_format(None).select_columns(wanted)
        if wanted
        else loaded.select(range(min(1, len(loaded))))
    )
    try:
        for number, values in enumerate(table, start=1):
            yield Row(f"{path}, row {number}", {"row": number}, keys, values)
    except (*DAMAGED, OSError) as error:
        raise UserError(f"not a whole saved dataset ({error})", where=str(path), fix=_REMAKE) from None


def _package(kind: str, module: str, path: Path) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        name, install = next(iter(PACKAGES[kind].items()))
        raise UserError(
            f"reading it needs the package {name}, which is not installed",
            where=str(path),
            fix=f"pip install {install}",
        ) from None


READERS: dict[str, Callable[[Path, str | None, Collection[str]], Iterator[Row]]] = {
    "jsonl": _jsonl, "json": _json, "csv": _csv, "parquet": _parquet, "saved": _saved,
}  # fmt: skip
