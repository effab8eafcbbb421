"""Several runs over the same problems: the figures of each, and paired differences from the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.evaluation.graded_runs import GradedRun
from nemo_cot.evaluation.intervals import bootstrap_intervals, paired_differences
from nemo_cot.evaluation.measures import COMPARED, Readings, compared_metrics, readings
from nemo_cot.evaluation.metrics import Metric
from nemo_cot.evaluation.scores import POLICY, Change, Figure

PAPER_SUBSETS = {"aime24": 30, "aime25": 30, "hmmt-24-25": 196}
"""Number of problems per subset of Comp-Math-24-25, which identifies the paper's benchmark."""
_SHOWN = 3


class ComparedRun(msgspec.Struct):
    """One run: its figures, and its differences from the first (None for the first itself).

    ``samples``: the smallest and the largest number of samples per problem.
    """

    run: str
    samples: tuple[int, int]
    undecided: float
    grader_versions: list[str]
    figures: dict[str, Figure]
    minus_first: dict[str, Change] | None


class Comparison(msgspec.Struct):
    """``k``: samples per problem of pass@k and maj@k, the smallest number in any run; maj@k takes the
    first k in the order of their seeds, pass@1 all samples. ``differences``: of each run minus
    the first, problem by problem. ``papers_benchmark``: whether the problems are those of the paper. ``chance``: pass@1
    of guessing; None where the problems have no options to choose from. ``set``: of the held-out set, empty for the
    runs' own.
    """

    problems: int
    k: int
    confidence: float
    bootstrap_resamples: int
    bootstrap_seed: int
    undecided_counted_as: str
    papers_benchmark: bool
    warnings: list[str]
    runs: list[ComparedRun]
    chance: float | None = None
    set: str = ""


def compare_sets(
    read: Callable[[str], Sequence[GradedRun]], sets: Sequence[str], **settings: Any
) -> dict[str, Comparison]:
    """:func:`compare` what is ``read`` of each of ``sets``, by name. One behind the first whose problems differ between
    the runs is left out, and named among the warnings of the first.
    """
    first, *others = sets
    found = {first: compare(read(first), name=first, **settings)}
    for name in others:
        try:
            found[name] = compare(read(name), name=name, **settings)
        except UserError as error:
            found[first].warnings.append(f"the set {name} is left out: {error.what}")
    return found


def compare(
    runs: Sequence[GradedRun],
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    name: str = "",
) -> Comparison:
    """Compare two or more runs with the first; ``name``: of the held-out set, empty for their own.

    Raises UserError, naming problems, for runs whose problems differ in id, text or expected answer.
    """
    for other in runs[1:]:
        check_same_problems(runs[0], other)
    read = [readings(run.rows) for run in runs]
    k = min(int(found.lenient.sample_counts.min()) for found in read)
    metrics = [compared_metrics(found, k) for found in read]
    settings = {"resamples": resamples, "confidence": confidence, "seed": seed}
    return Comparison(
        problems=len(read[0].lenient.problem_ids),
        k=k,
        confidence=confidence,
        bootstrap_resamples=resamples,
        bootstrap_seed=seed,
        undecided_counted_as=POLICY,
        papers_benchmark=is_papers_benchmark({name: len(places) for name, places in read[0].subsets.items()}),
        chance=read[0].chance_at(),
        set=name,
        warnings=run_warnings(runs, read, k),
        runs=[
            ComparedRun(run.label, _samples(found), own["lenient"].undecided, run.graders, figures, change)
            for run, found, own, figures, change in zip(
                runs, read, metrics, _figures(metrics, settings), _changes(metrics, settings)
            )
        ],
    )


def is_papers_benchmark(subsets: Mapping[str, int]) -> bool:
    """Whether so many problems per subset are those of Comp-Math-24-25."""
    return dict(subsets) == PAPER_SUBSETS


def _figures(
    metrics: Sequence[Mapping[str, Metric]], settings: Mapping[str, Any]
) -> Iterator[dict[str, Figure]]:
    """The figures of each run with their intervals."""
    ends = iter(bootstrap_intervals([own[key] for own in metrics for key in COMPARED], **settings))
    for own in metrics:
        yield {key: Figure(own[key].value, *next(ends)) for key in COMPARED}


def _changes(
    metrics: Sequence[Mapping[str, Metric]], settings: Mapping[str, Any]
) -> Iterator[dict[str, Change] | None]:
    """Each run's figures minus the first run's; None for the first."""
    first, *others = metrics
    pairs = [(first[key], own[key]) for own in others for key in COMPARED]
    found = iter(paired_differences(pairs, **settings))
    yield None
    for _ in others:
        differences = {key: next(found) for key in COMPARED}
        yield {key: Change(d.value, d.low, d.high, d.p_value) for key, d in differences.items()}


def check_same_problems(first: GradedRun, other: GradedRun) -> None:
    """Raise UserError, naming problems, unless both have the same ids, texts and expected answers."""
    ours, theirs = first.problems, other.problems
    odd = [
        f"{len(names)} only in {run.label} ({_some(names)})"
        for run, names in ((first, sorted(ours.keys() - theirs)), (other, sorted(theirs.keys() - ours)))
        if names
    ]
    for what, part in (("another text", 0), ("another expected answer", 1)):
        names = sorted(n for n in ours.keys() & theirs if ours[n][part] != theirs[n][part])
        odd += [f"{len(names)} with {what} ({_some(names)})"] if names else []
    if odd:
        raise UserError(
            f"the problems differ: {'; '.join(odd)}",
            where=f"{first.label} and {other.label}",
            fix="compare runs evaluated on the same problems",
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def run_warnings(runs: Sequence[GradedRun], read: Sequence[Readings], k: int) -> list[str]:
    """What makes the figures of the runs not comparable, one line each."""
    found = [
        f"{run.label}: its samples changed after they were scored; run evaluate again"
        for run in runs
        if run.stale
    ]
    found += _differing("grader versions differ; grade all with one version", runs, lambda run: run.graders)
    counts = {run.label: _samples(one) for run, one in zip(runs, read)}
    if len({count for pair in counts.values() for count in pair}) > 1:
        shown = ", ".join(f"{low if low == high else f'{low} to {high}'} ({n})" for n, (low, high) in counts.items())  # fmt: skip
        found.append(f"samples per problem differ: {shown}; maj@{k} takes the first {k}, pass@1 all of them")
    unknown = [run.label for run in runs if run.settings is None]
    if unknown:
        found.append(f"no manifest records the sampling of {', '.join(unknown)}")
    known = [run for run in runs if run.settings is not None]
    for key in sorted({key for run in known for key in run.settings or ()}):
        found += _differing(f"sampling differs in {key}", known, lambda run: (run.settings or {}).get(key))  # noqa: B023
    return found


def _differing(what: str, runs: Sequence[GradedRun], read: Callable[[GradedRun], Any]) -> list[str]:
    by_value: dict[str, list[GradedRun]] = {}
    for run in runs:
        by_value.setdefault(repr(read(run)), []).append(run)
    if len(by_value) < 2:
        return []
    shown = (f"{_short(read(same[0]))} ({_some([run.label for run in same])})" for same in by_value.values())
    return [f"{what}: {', '.join(shown)}"]


def _short(value: Any) -> str:
    text = "; ".join(map(str, value)) if isinstance(value, list) else repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _samples(read: Readings) -> tuple[int, int]:
    counts = read.lenient.sample_counts
    return int(counts.min()), int(counts.max())
