"""The structure of sets of traces: means of all measures with intervals, transitions between steps,
similarity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nemo_cot.config import Config
from nemo_cot.config.marks import MarksConfig
from nemo_cot.errors import UserError
from nemo_cot.evaluation.intervals import bootstrap_intervals
from nemo_cot.evaluation.metrics import Metric
from nemo_cot.io.json_file import write_json
from nemo_cot.io.jsonl import no_rows
from nemo_cot.records import row_id
from nemo_cot.traces.keys import value_of
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.parallel import Line, over_rows
from nemo_cot.traces.structure import View, measure_names, unit_of
from nemo_cot.traces.structure.vectors import SIZE, text_vector


class Figure(msgspec.Struct):
    """The mean over problems of a measure's mean over the problem's traces, with its interval (bootstrap over
    problems); null where the measure is defined for no trace. ``traces``: of how many it is defined.
    """

    value: float | None
    low: float | None
    high: float | None
    traces: int


class Profile(msgspec.Struct):
    """A set of traces. ``transitions``: P(kind of the next step given that of this one), for kinds that occur.

    ``similarity``: mean cosine of the word vectors of all pairs of different traces; null for fewer than 2.
    """

    traces: int
    problems: int
    measures: dict[str, Figure]
    transitions: dict[str, dict[str, float]]
    similarity: float | None


class Structure(msgspec.Struct):
    """structure.json: several sets side by side. ``units`` by measure; the last two by pairs of sets, as
    [first, second, value]: Pearson's r of the transition matrices (arXiv 2601.06002; see
    :func:`transition_similarity`), and the mean cosine of word vectors between them.
    """

    confidence: float
    bootstrap_resamples: int
    marks: list[str]
    units: dict[str, str]
    sets: dict[str, Profile]
    transition_similarity: list[tuple[str, str, float | None]]
    text_similarity: list[tuple[str, str, float | None]]


@dataclass
class Measured:
    """What is kept of a set: a value per trace and measure, and sums. ``transitions``: counts, int [kinds,
    kinds]; ``vectors``: the sum of the word vectors, float64 [SIZE]; ``with_words``: how many of them are not
    0.
    """

    kinds: Sequence[str]
    names: Sequence[str]
    problem_ids: list[str] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    transitions: np.ndarray = field(default_factory=lambda: np.zeros(0))
    vectors: np.ndarray = field(default_factory=lambda: np.zeros(SIZE))
    squares: float = 0.0
    with_words: int = 0

    @classmethod
    def empty(cls, marks: MarksConfig, names: Sequence[str] = ()) -> Measured:
        """A set without traces yet; all measures, without ``names``."""
        kinds = Marks(marks).step_kinds
        return cls(
            kinds, list(names) or measure_names(), transitions=np.zeros((len(kinds),) * 2, dtype=np.int64)
        )

    def add(self, found: Found) -> None:
        """Count one trace."""
        self.problem_ids.append(found.problem_id)
        self.values.append(found.values)
        np.add.at(self.transitions, (found.kinds[:-1], found.kinds[1:]), 1)
        vector = found.vector.astype(np.float64)
        self.vectors += vector
        self.squares += float(vector @ vector)
        self.with_words += bool(vector.any())

    @property
    def table(self) -> np.ndarray:
        """float32 [traces, measures]; NaN where a measure is not defined."""
        return np.stack(self.values) if self.values else np.zeros((0, len(self.names)), np.float32)


@dataclass(frozen=True)
class Found:
    """One trace: ``values``, float32 [measures]; ``kinds`` of its steps, as places in those of its set, uint8
    [steps]; ``vector``: see :func:`text_vector`.
    """

    problem_id: str
    group: str | None
    values: np.ndarray
    kinds: np.ndarray
    vector: np.ndarray

    @classmethod
    def of(cls, view: View, names: Sequence[str], problem_id: str, group: str | None = None) -> Found:
        """What is kept of ``view``, with the measures ``names``."""
        place = {kind: number for number, kind in enumerate(view.marks.step_kinds)}
        values = np.array([view.measured(name) for name in names], dtype=np.float32)
        kinds = np.array([place[kind] for kind in view.kinds], dtype=np.uint8)
        return cls(problem_id, group, values, kinds, text_vector(view))


class PlainRow(msgspec.Struct):
    """A row of any file of traces, as far as measures read it."""

    generation: str
    problem_id: str
    finish_reason: str | None
    verdict: str | None
    expected_answer: str | None
    predicted_answer: str | None
    tokens: int | None
    group: str | None


def measured_sets(
    path: Path,
    marks: MarksConfig,
    *,
    names: Sequence[str] = (),
    by: str | None = None,
    label: str,
    folder: Path | None = None,
) -> dict[str, Measured]:
    """The traces in the file of JSON lines, measured by several processes: one set named "", or with ``by``
    one per value of that key of the rows or of their lineage. ``names``: the measures, all without any.

    Raises UserError for rows that are not traces, and for none.
    """
    names = list(names) or measure_names()
    sets: dict[str, Measured] = {}
    for found in over_rows(path, dict, _measurer, (path, marks, names, by), label=label, folder=folder):
        sets.setdefault(found.group or "", Measured.empty(marks, names)).add(found)
    if not sets:
        raise no_rows(path)
    if by is not None and set(sets) == {""}:
        raise UserError(
            "no row has this key",
            where=f"{path}, --by {by}",
            fix="name a key of the rows or of their lineage",
        )
    return dict(sorted(sets.items()))


def _measurer(
    path: Path, config: MarksConfig, names: Sequence[str], by: str | None
) -> Callable[[list[Line]], list[Found]]:
    marks = Marks(config)

    def one(line: Line) -> Found:
        row = plain_row(line.row, by, where=f"{path}, row {line.number + 1}")
        return Found.of(View(row, marks, row.tokens), names, row.problem_id, row.group)

    return lambda lines: [one(line) for line in lines]


def plain_row(row: Mapping[str, Any], by: str | None = None, *, where: str = "") -> PlainRow:
    """What is measured of ``row``. A problem is its id, or else its text. Raises UserError without a
    generation.
    """
    text = row.get("generation")
    if not isinstance(text, str):
        keys = ", ".join(sorted(map(str, row))[:12]) or "none"
        raise UserError(
            f"generation is missing or not text (its keys: {keys})", where=where,
            fix="give traces with the key generation, or run `teacher=file` on the file and name the run",
        )  # fmt: skip
    count = row.get("num_student_tokens") or row.get("num_generated_tokens")

    def text_of(key: str) -> str | None:
        return str(row[key]) if isinstance(row.get(key), (str, int, float)) else None

    return PlainRow(
        generation=text,
        problem_id=row_id(dict(row)) or text_of("problem") or "",
        finish_reason=text_of("finish_reason"),
        verdict=text_of("verdict"),
        expected_answer=text_of("expected_answer"),
        predicted_answer=text_of("predicted_answer"),
        tokens=count if isinstance(count, int) and not isinstance(count, bool) else None,
        group=value_of(by, row, row.get("lineage")) if by else None,
    )


def structure(
    sets: Mapping[str, Measured], marks: MarksConfig, *, resamples: int, confidence: float, seed: int
) -> Structure:
    """The profiles of ``sets`` beside each other."""
    settings = {"resamples": resamples, "confidence": confidence, "seed": seed}
    names = dict.fromkeys(name for measured in sets.values() for name in measured.names)
    pairs = [(a, b) for number, a in enumerate(sets) for b in list(sets)[number + 1 :]]
    profiles = {name: _profile(measured, settings) for name, measured in sets.items()}
    return Structure(
        confidence=confidence,
        bootstrap_resamples=resamples,
        marks=list(marks.words),
        units={name: unit_of(name) for name in names},
        sets=profiles,
        transition_similarity=[(a, b, transition_similarity(profiles[a], profiles[b])) for a, b in pairs],
        text_similarity=[(a, b, _between(sets[a], sets[b])) for a, b in pairs],
    )


def _profile(measured: Measured, settings: dict[str, Any]) -> Profile:
    table = measured.table.astype(np.float64)
    problems, place = np.unique(np.array(measured.problem_ids, dtype=object).astype(str), return_inverse=True)
    columns = {name: _per_problem(table[:, i], place, len(problems)) for i, name in enumerate(measured.names)}
    ids = tuple(problems)
    shares = {name: unit_of(name) == "share" for name in columns}
    defined = [Metric(n, c, ids, 0.0, share=shares[n]) for n, c in columns.items() if not np.isnan(c).all()]
    ends = dict(zip((c.name for c in defined), bootstrap_intervals(defined, **settings) if defined else ()))
    figures = {}
    for number, (name, column) in enumerate(columns.items()):
        value = float(np.nanmean(column)) if name in ends else None
        low, high = ends.get(name, (None, None))
        figures[name] = Figure(value, low, high, int((~np.isnan(table[:, number])).sum()))
    matrix = probabilities(measured.transitions)
    transitions = {
        kind: {other: round(float(p), 6) for other, p in zip(measured.kinds, row) if p > 0}
        for kind, row in zip(measured.kinds, matrix)
        if row.any()
    }
    count = measured.with_words
    within = (
        (float(measured.vectors @ measured.vectors) - measured.squares) / (count * (count - 1))
        if count > 1
        else None
    )
    return Profile(len(table), len(problems), figures, transitions, within)


def _per_problem(values: np.ndarray, place: np.ndarray, count: int) -> np.ndarray:
    """Mean of the values that are defined, by problem, float64 [problems]; NaN for a problem without any."""
    known = np.isfinite(values)
    sums = np.bincount(place[known], weights=values[known], minlength=count)
    counts = np.bincount(place[known], minlength=count)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def probabilities(transitions: np.ndarray) -> np.ndarray:
    """Counts [kinds, kinds] as P(next | this), each row with a sum of 1; a row without counts stays 0."""
    return transitions / np.maximum(transitions.sum(axis=1, keepdims=True), 1)


def transition_similarity(first: Profile, second: Profile) -> float | None:
    """Pearson's r of the two matrices P(next | this), over the rows that both have and the kinds that either has.

    None where they have no row in common, or one of the matrices is constant.
    """
    one, other = first.transitions, second.transitions
    columns = sorted({kind for matrix in (one, other) for row in matrix.values() for kind in row})
    a, b = (
        np.array(
            [matrix[row].get(kind, 0.0) for row in sorted(one.keys() & other.keys()) for kind in columns]
        )
        for matrix in (one, other)
    )
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _between(first: Measured, second: Measured) -> float | None:
    pairs = first.with_words * second.with_words
    return float(first.vectors @ second.vectors) / pairs if pairs else None


def by_measure(sets: Mapping[str, Measured]) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Per measure, the defined values of each set, a value per trace."""
    found: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for name, measured in sets.items():
        for key, column in zip(measured.names, measured.table.T):
            found[key][name] = column[np.isfinite(column)].tolist()
    yield from found.items()


def write_structure(path: Path, sets: Mapping[str, Measured], cfg: Config) -> None:
    """Write structure.json, with the evaluation's settings of intervals."""
    write_json(path, structure(sets, cfg.marks, **cfg.evaluate.intervals))
