"""The way of one trace through the stages of a run: out of their manifests, so that every stage is on it by
itself.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.io.jsonl import iter_numbered_jsonl
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import Manifest

_OTHERS = ("evaluate/", "report", "problems/")
"""How stages begin whose rows are not about the traces that are trained on; problems/SET may have the same ids."""


@dataclass(frozen=True)
class Station:
    """A row about the trace in an output of a stage. ``values``: its fields; ``new``: those that no station
    before had with this value; ``steps``: what it appended to the lineage.
    """

    stage: str
    file: str
    line: int
    manifest: Manifest
    values: Mapping[str, Any]
    new: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()

    @property
    def text(self) -> str | None:
        """The trace as it is there; None for rows without it."""
        text = self.values.get("generation")
        return text if isinstance(text, str) else None


def history(
    run: RunDirectory, manifests: Mapping[str, Manifest], problem_id: str, sample: int
) -> list[Station]:
    """Every row about the trace, and about its problem where a file has one per problem, in the order of
    the chain.

    ``manifests``: those of the finished stages, each after those that it read.
    """
    stations, known, length = [], {}, 0
    for stage, file, path, manifest in _files(run, manifests):
        for line, row in _about(path, problem_id):
            if row.get("sample", sample) != sample:
                continue
            lineage = row.get("lineage")
            steps = tuple(lineage[length:]) if isinstance(lineage, list) else ()
            length = max(length, len(lineage) if isinstance(lineage, list) else 0)
            new = {k: v for k, v in row.items() if k != "lineage" and (k not in known or known[k] != v)}
            known |= row
            stations.append(Station(stage, file, line, manifest, row, new, steps))
            if "step" not in row:
                break  # the first one; only a training has a row per step
    return stations


def samples_of(path: Path, problem_id: str) -> list[int]:
    """The sample numbers of a problem's rows in ``path``."""
    return [row["sample"] for _, row in _about(path, problem_id) if isinstance(row.get("sample"), int)]


def find_trace(run: RunDirectory, manifests: Mapping[str, Manifest], wanted: str) -> tuple[str, int]:
    """The problem id and sample of ``wanted``: ID, if one trace of it was chosen, or ID:SAMPLE of the whole
    pool.

    Raises UserError naming the samples that there are, or the nearest ids.
    """
    files = {f"{stage}/{file}": path for stage, file, path, _ in _files(run, manifests)}
    pools = [path for name, path in files.items() if name.startswith(("generate/", "grade/"))]
    for problem_id, sample in ((wanted, None), _parted(wanted)):
        if not problem_id:
            continue
        pool = sorted({number for path in pools for number in samples_of(path, problem_id)})
        if sample in pool:
            return problem_id, sample
        chosen = (
            samples_of(files["curate/traces.jsonl"], problem_id) if "curate/traces.jsonl" in files else []
        )
        if sample is None and len(chosen) == 1:
            return problem_id, chosen[0]
        if pool:
            which = (
                f"{len(chosen)} of its traces were chosen" if sample is None else f"it has no sample {sample}"
            )
            numbers = ", ".join(map(str, (chosen or pool)[:12]))
            raise UserError(
                f"{which}; it has samples {numbers}",
                where=wanted,
                fix=f"name one: {problem_id}:{(chosen or pool)[0]}",
            )
    ids = {
        row.get("problem_id")
        for name, path in files.items()
        if name == "problems/train.jsonl"
        for _, row in iter_numbered_jsonl(path)
    }
    near = difflib.get_close_matches(wanted.rpartition(":")[0] or wanted, sorted(filter(None, ids)), n=3)
    fix = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"take a problem_id of {run.stage('curate') / 'traces.jsonl'}"
    )
    raise UserError("no trace of such a problem", where=f"{wanted} (in {run.path})", fix=fix)


def _parted(wanted: str) -> tuple[str, int | None]:
    problem_id, _, number = wanted.rpartition(":")
    return (problem_id, int(number)) if re.fullmatch(r"\d{1,9}", number) else ("", None)


def _files(run: RunDirectory, manifests: Mapping[str, Manifest]) -> Iterator[tuple[str, str, Path, Manifest]]:
    """Stage, name, path and manifest of each output with a row per line, but for those of an evaluation."""
    for stage, manifest in manifests.items():
        if not stage.startswith(_OTHERS):
            for name in manifest.outputs:
                if name.endswith(".jsonl") and (path := run.stage(stage) / name).exists():
                    yield stage, name, path, manifest


def _about(path: Path, problem_id: str) -> Iterator[tuple[int, dict]]:
    """The rows of ``path`` with this problem id; other lines are not decoded."""
    needle = msgspec.json.encode(problem_id)
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            if needle in line:
                row = _decoded(line, path, number)
                if isinstance(row, dict) and row.get("problem_id") == problem_id:
                    yield number, row


def _decoded(line: bytes, path: Path, number: int) -> Any:
    try:
        return msgspec.json.decode(line)
    except DAMAGED as error:
        raise UserError(str(error), where=f"{path}, line {number}", fix="run that stage again") from None
