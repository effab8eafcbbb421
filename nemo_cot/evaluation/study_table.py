"""One table of a study: each variant over its repeats, its difference to the baseline, and where the variance is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import msgspec
import numpy as np

from nemo_cot.errors import UserError
from nemo_cot.evaluation.comparison import check_same_problems, run_warnings
from nemo_cot.evaluation.graded_runs import GradedRun
from nemo_cot.evaluation.measures import Readings, compared_metrics, readings
from nemo_cot.evaluation.metrics import Metric
from nemo_cot.evaluation.repeats import (
    POWER,
    RunMean,
    grouped,
    holm,
    repeated_differences,
    repeated_means,
    sampling_variance,
    variance_components,
)
from nemo_cot.evaluation.scores import POLICY, Change, Figure

_OF_SAMPLES = ("lenient", "strict", "format_rate", "nemo_skills_pass_at_1")
"""Measures that are means over samples, whose sampling variance is in the samples of one run."""


@dataclass(frozen=True)
class Repeat:
    """A finished run of ``variant``; ``seeds``: those that the study varies, by what each decides; None where it does not act
    on the variant, which is one model whatever it is. ``read()``: its samples on its own held-out problems,
    ``read(NAME)`` on a further set: None where it has none.
    """

    variant: str
    name: str
    seeds: Mapping[str, int | None]
    read: Callable[..., GradedRun | None]


class Corrected(Change):
    """A difference to the baseline, paired by problem and seeds. ``p_holm``: corrected for the number of variants.
    ``detectable``: the smallest difference that would have been seen with 80 % chance, after the correction.
    """

    p_holm: float
    detectable: float


class Cell(Figure):
    """A measure of a variant, a mean over repeats and problems; ``minus_baseline`` None for the baseline itself,
    and where no repeat has the seeds of one of the baseline.
    """

    minus_baseline: Corrected | None


class Row(msgspec.Struct):
    """A variant. ``runs``: those in its figures; ``repeats``: how many count, see evaluation/repeats.py."""

    variant: str
    subject: str
    runs: list[str]
    repeats: int
    missing: list[str]
    measures: dict[str, Cell]


class OnSet(msgspec.Struct):
    """A further held-out set of a study's measures (SET.MEASURE)."""

    problems: int
    k: int
    chance: float | None


class StudyTable(msgspec.Struct):
    """``problems``, ``k`` and ``chance``: of the runs' own held-out problems; ``sets``: of the further ones.
    ``repeated_over``: what the repeats vary; the luck of what they do not is in no interval. ``one_model``: the variants
    that are no other with another seed, whose figures have no luck of runs.
    ``variance``: per measure, the share of each source in the variance between runs of one variant, and as ``total``
    its square root, a run's standard deviation. ``detectable``: per measure, the median over variants.
    """

    study: str
    title: str
    baseline: str
    problems: int
    k: int
    confidence: float
    bootstrap_resamples: int
    power: float
    undecided_counted_as: str
    warnings: list[str]
    rows: list[Row]
    variance: dict[str, dict[str, float]]
    detectable: dict[str, float]
    chance: float | None = None
    sets: dict[str, OnSet] = {}
    repeated_over: list[str] = []
    one_model: list[str] = []

    def k_of(self, measure: str) -> int:
        """The samples per problem of a measure."""
        name = set_of(measure)
        return self.sets[name].k if name else self.k


def set_of(measure: str) -> str:
    """The held-out set of a measure: its own part before the dot; empty for the runs' own problems."""
    return measure.rpartition(".")[0]


@dataclass
class _Read:
    """A repeat with its samples on one set read, without the rows. ``metrics``, ``sampling``: by measure. ``decides``: its
    value of the first seed that varies in the study, empty for one model: a variant that lacks repeats must not count
    others instead.
    """

    repeat: Repeat
    decides: tuple[int, ...]
    graded: GradedRun
    readings: Readings
    metrics: dict[str, Metric]
    sampling: dict[str, float]

    @property
    def one_model(self) -> bool:
        """Whether a seed of the study does not act on it: then it has no luck, and is no sample of it."""
        return None in self.repeat.seeds.values()


def study_table(
    repeats: Sequence[Repeat],
    *,
    study: str,
    title: str,
    baseline: str,
    subjects: Mapping[str, str],
    measures: Sequence[str],
    missing: Mapping[str, Sequence[str]],
    resamples: int,
    confidence: float,
    seed: int,
) -> StudyTable:
    """The table of the finished ``repeats``. ``subjects``: the compared subject of each variant, in the order of the
    rows; ``missing``: the runs of each that are not finished.

    Raises UserError without a finished run of the baseline, and for runs over different problems.
    """
    settings = {"resamples": resamples, "confidence": confidence, "seed": seed}
    sets = dict.fromkeys(["", *map(set_of, measures)])
    varied = [s for s in (repeats[0].seeds if repeats else ()) if len({one.seeds[s] for one in repeats} - {None}) > 1]
    read = {name: _read_set(repeats, name, [m for m in measures if set_of(m) == name], varied[:1]) for name in sets}
    columns, variance = {}, {}
    for measure in measures:
        found = read[set_of(measure)]
        if not any(one.repeat.variant == baseline for one in found):
            name = set_of(measure)
            raise UserError(
                f"no run of the baseline {baseline} has scores{f' on {name}' if name else ''}",
                where=f"study {study}",
                fix=f"run the study, or this variant alone with --only {baseline}",
            )
        own = {name: [one for one in found if one.repeat.variant == name] for name in subjects}
        columns[measure] = _cells(own, baseline, measure, settings)
        variance[measure] = _variance(own, measure)
    counts = {name: _on_set(found) for name, found in read.items() if found}
    runs = {name: [one for one in read[""] if one.repeat.variant == name] for name in subjects}
    rows = [
        Row(
            name,
            subjects[name],
            [one.repeat.name for one in found],
            len({one.decides for one in found}),
            list(missing.get(name, ())),
            {m: columns[m][name] for m in measures if name in columns[m]},
        )
        for name, found in runs.items()
    ]
    own_set = counts.pop("")
    return StudyTable(
        study=study,
        title=title,
        baseline=baseline,
        problems=own_set.problems,
        k=own_set.k,
        confidence=confidence,
        bootstrap_resamples=resamples,
        power=POWER,
        undecided_counted_as=POLICY,
        warnings=[line for name, found in read.items() for line in _warnings(found, name, repeats)],
        rows=rows,
        variance=variance,
        detectable={m: _detectable(columns[m]) for m in measures},
        chance=own_set.chance,
        sets=counts,
        repeated_over=varied,
        one_model=[name for name, found in runs.items() if any(one.one_model for one in found)],
    )


def _read_set(
    repeats: Sequence[Repeat], name: str, measures: Sequence[str], deciding: Sequence[str]
) -> list[_Read]:
    """The repeats on the set ``name``, with ``measures``, which are of that set; of a further one those that have it.
    Raises UserError for runs over different problems.
    """
    read = [one for repeat in repeats if (one := _read(repeat, name, deciding)) is not None]
    for other in read[1:]:
        check_same_problems(read[0].graded, other.graded)
    keys = {measure.rpartition(".")[2]: measure for measure in measures}
    k = min((int(one.readings.lenient.sample_counts.min()) for one in read), default=1)
    for one in read:
        order, counts = read[0].readings.lenient.problem_ids, one.readings.lenient.sample_counts
        found = compared_metrics(one.readings, k, list(keys))
        one.metrics = {keys[key]: _ordered(metric, order) for key, metric in found.items()}
        one.sampling = {
            keys[key]: sampling_variance(found[key].per_problem, counts) for key in keys if key in _OF_SAMPLES
        }
    return read


def _on_set(read: Sequence[_Read]) -> OnSet:
    counts = [int(one.readings.lenient.sample_counts.min()) for one in read]
    return OnSet(len(read[0].readings.lenient.problem_ids), min(counts), read[0].readings.chance_at())


def _read(repeat: Repeat, name: str, deciding: Sequence[str]) -> _Read | None:
    graded = repeat.read(name) if name else repeat.read()
    if graded is None:
        return None
    found = readings(graded.rows)
    one_each = list({row.problem_id: row for row in graded.rows}.values())  # a study may have a million
    decides = tuple(value for seed in deciding if (value := repeat.seeds[seed]) is not None)
    return _Read(repeat, decides, replace(graded, rows=one_each), found, {}, {})


def _ordered(metric: Metric, order: Sequence[str]) -> Metric:
    """Its problems in the order of the first run's."""
    if metric.problem_ids == tuple(order):
        return metric
    places = {name: place for place, name in enumerate(metric.problem_ids)}
    return metric.restricted(np.array([places[name] for name in order]))


def _seeds(one: _Read) -> tuple[int | None, ...]:
    return tuple(one.repeat.seeds.values())


def _paired(first: Sequence[_Read], second: Sequence[_Read]) -> list[tuple[_Read, _Read]]:
    """Those of the same seeds; one model stands beside every value of what does not act on it."""
    both = ((one, other) for one in first for other in second)
    return [pair for pair in both if all(a == b or None in (a, b) for a, b in zip(*map(_seeds, pair)))]


def _values(found: Sequence[_Read], measure: str, decides: Sequence[tuple[int, ...]] | None = None) -> np.ndarray:
    decides = decides or [one.decides for one in found]
    return grouped(np.stack([one.metrics[measure].per_problem for one in found]), decides)


def _cells(
    own: Mapping[str, Sequence[_Read]], baseline: str, measure: str, settings: Mapping[str, Any]
) -> dict[str, Cell]:
    """The cells of one column, by variant; none for variants without runs."""
    there = [name for name, found in own.items() if found]
    share = own[there[0]][0].metrics[measure].share
    lucky = {name: not own[name][0].one_model for name in there}
    columns = [_values(own[name], measure) for name in there]
    figures = repeated_means(columns, lucky=list(lucky.values()), share=share, **settings)
    cells = {n: Cell(f.value, f.low, f.high, None) for n, f in zip(there, figures)}
    pairs = {}
    for name in there:
        if name != baseline and (both := _paired(own[baseline], own[name])):
            decides = [one.decides or other.decides for one, other in both]
            first, second = (_values(side, measure, decides) for side in zip(*both))
            pairs[name] = (first, second)
    sides = [(lucky[baseline], lucky[name]) for name in pairs]
    changes = repeated_differences(list(pairs.values()), lucky=sides, share=share, **settings)
    corrected = holm([change.p_value for change in changes])
    for name, change, p_holm in zip(pairs, changes, corrected):
        cells[name].minus_baseline = Corrected(
            change.value, change.low, change.high, change.p_value, p_holm, change.detectable
        )
    return cells


def _variance(own: Mapping[str, Sequence[_Read]], measure: str) -> dict[str, float]:
    """Shares of the variance by source, and its square root as ``total``; empty without repeats."""
    runs = [
        [RunMean(one.metrics[measure].value, _seeds(one), one.sampling.get(measure)) for one in found]
        for found in own.values()
        if found and not found[0].one_model
    ]
    sources = next((list(one.repeat.seeds) for found in own.values() for one in found), [])
    parts = variance_components(runs, sources)
    total = sum(parts.values())
    return {**{n: part / total for n, part in parts.items()}, "total": float(np.sqrt(total))} if total else {}


def _detectable(cells: Mapping[str, Cell]) -> float:
    found = [c.minus_baseline.detectable for c in cells.values() if c.minus_baseline is not None]
    return median(found) if found else float("nan")


def _warnings(read: Sequence[_Read], name: str, repeats: Sequence[Repeat]) -> list[str]:
    """Those of compared runs, runs without this set, and repeats that are none: those whose samples came out the same."""
    k = _on_set(read).k if read else 0
    there = {one.repeat.name for one in read}
    lacking = [one.name for one in repeats if one.name not in there]
    found = [f"no scores of {', '.join(lacking)}"] if lacking else []
    found += run_warnings([one.graded for one in read], [one.readings for one in read], k)
    same: dict[tuple, list[_Read]] = {}
    for one in read:
        outcomes = one.readings.lenient
        same.setdefault((one.repeat.variant, outcomes.verdicts.tobytes(), outcomes.answers), []).append(one)
    for (variant, *_), runs in same.items():
        differing = [s for s in runs[0].repeat.seeds if len({one.repeat.seeds[s] for one in runs}) > 1]
        if differing:
            names = ", ".join(one.repeat.name for one in runs)
            found.append(f"{variant}: the same answers in {names}: the seed of {' and '.join(differing)} did not act")
    return [f"{name}: {line}" if name else line for line in found]
