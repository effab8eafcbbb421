"""The first screen in words: did it work, what to be careful about, and what to read next. Rules, not
opinions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nemo_cot.evaluation.comparison import Comparison
from nemo_cot.evaluation.scores import Change, CountedFigure, Figure, Figures, Scores
from nemo_cot.report.collect import Findings
from nemo_cot.report.facts import gain
from nemo_cot.report.results import Headline, ProblemRow, Remark
from nemo_cot.report.tables import percent, points

MANY_CUT, MANY_UNDECIDED, FEW_PROBLEMS, FORMAT_MOVED = 0.05, 0.02, 100, 0.2
"""Shares of samples, a number of problems, and a change of the format rate, from which the reader is warned."""
_STAGES = {True: "did not finish", False: "has no scores yet"}


def headline(scores: Scores | None, failed: bool) -> Headline:
    """Whether training helped, from the interval of the paired difference of pass@1 (lenient)."""
    if scores is None or not scores.subjects:
        return Headline("none", f"No result: this run {_STAGES[failed]}.")
    level = f"{100 * scores.confidence:g} % interval"
    effect = scores.learning_effect.get("lenient")
    if effect is None:
        name, found = _best(scores)
        sentence = f"{name}: {percent(found.lenient.value)} of its answers are right (pass@1)."
        return Headline("measured", sentence, f"{level} {_span(found.lenient)}, {_counts(found.lenient)}.")
    base, trained = scores.subjects["base"], scores.subjects["trained"]
    detail = f"{points(effect.value)} points, {level} {points(effect.low)} to {points(effect.high)}, paired by problem"
    bound = trained.lenient.value - base.lenient_undecided_right.value
    if base.undecided.count:
        detail += f"; at least {points(bound)} if every undecided base answer were right"
    return Headline(*judged(effect, "Training", base.lenient, trained.lenient), f"{detail}.")


def judged(effect: Change, what: str, before: Figure, after: Figure) -> tuple[str, str]:
    """The verdict and its sentence: helped or hurt only if the interval leaves out 0."""
    span = f"from {percent(before.value)} to {percent(after.value)}"
    if effect.low > 0:
        return "helped", f"{what} helped: pass@1 rose {span}."
    if effect.high < 0:
        return "hurt", f"{what} hurt: pass@1 fell {span}."
    return "unclear", f"No effect shown: pass@1 went {span}, within the noise."


def comparison_headline(found: Comparison) -> Headline:
    """The best run against the first, by pass@1."""
    first, *others = found.runs
    best = max(others, key=lambda run: run.figures["lenient"].value)
    effect = (best.minus_first or {})["lenient"]
    level = f"{100 * found.confidence:g} % interval"
    detail = f"{points(effect.value)} points, {level} {points(effect.low)} to {points(effect.high)}, paired by problem"
    if len(others) > 1:
        detail += f"; the best of {len(others)} compared with {first.run}, so its difference is flattered"
    span = f"{percent(first.figures['lenient'].value)} ({first.run}) and {percent(best.figures['lenient'].value)} ({best.run})"
    if effect.low > 0:
        return Headline("helped", f"{best.run} is better than {first.run}: pass@1 is {span}.", f"{detail}.")
    if effect.high < 0:
        return Headline("hurt", f"{first.run} is better than the others: pass@1 is {span}.", f"{detail}.")
    return Headline("unclear", f"No difference shown: pass@1 is {span}.", f"{detail}.")


def remarks(found: Findings, sensitivity: float | None, papers_benchmark: bool) -> Iterator[Remark]:
    """Warnings; errors of the chain first."""
    for entry in found.failed:
        code = "" if entry.exit_code is None else f", exit code {entry.exit_code}"
        yield Remark(
            f"The last chain did not finish: {entry.stage}: {entry.outcome}{code}.", "provenance", True
        )
    for text in found.damaged.values():
        yield Remark(f"Damaged manifest, the provenance of the stage is unknown: {text}", "provenance", True)
    if found.stale:
        names = ", ".join(found.stale)
        yield Remark(
            f"Out of date, because their inputs were made again: {names}. Run the chain again.",
            "provenance",
            True,
        )
    if found.scores is None:
        return
    for name, figures in found.scores.subjects.items():
        yield from _subject(name, figures)
    yield from _small(found.scores, sensitivity)
    moved = found.scores.learning_effect.get("format_rate")
    if moved and moved.value > FORMAT_MOVED:
        yield Remark(
            f"Part of the gain is format: boxed answers rose by {points(moved.value)} points. NeMo-Skills and the paper "
            "count boxed answers only.",
            "results",
        )
    if found.flagged:
        yield Remark(
            f"{found.flagged} traces resemble evaluation problems: see curate/flagged.jsonl.", "data"
        )
    if not papers_benchmark:
        yield Remark(
            "Other problems than the paper's: its figures are shown for scale and cannot be compared.",
            "results",
        )


def _subject(name: str, figures: Figures) -> Iterator[Remark]:
    cut = figures.finish_reasons.get("length")
    if cut and cut.value > MANY_CUT:
        yield Remark(
            f"{percent(cut.value)} of the answers of {name} were cut at the length limit.", "results"
        )
    if figures.undecided.value > MANY_UNDECIDED:
        yield Remark(
            f"{percent(figures.undecided.value)} of the answers of {name} are undecided and count as wrong.",
            "results",
        )


def _small(scores: Scores, sensitivity: float | None) -> Iterator[Remark]:
    count = min(figures.problems for figures in scores.subjects.values())
    if count < FEW_PROBLEMS:
        seen = (
            f": a true difference below {100 * sensitivity:.0f} points would often be missed"
            if sensitivity
            else ""
        )
        yield Remark(f"Only {count} problems{seen}.", "results")


def read_next(problems: Sequence[ProblemRow], pair: Sequence[str], found: Findings) -> Iterator[Remark]:
    """Where to go from the first screen."""
    yield from problems_next(problems, pair)
    if found.steps:
        yield Remark(f"Loss over {len(found.steps)} steps: Training", "training")
    if found.traces:
        yield Remark(f"The {len(found.traces)} traces that it was trained on: Data", "data")
    if found.manifests:
        yield Remark("How to run it again, and what differs from the defaults: Provenance", "provenance")


def problems_next(problems: Sequence[ProblemRow], pair: Sequence[str]) -> Iterator[Remark]:
    """Who gained and who lost."""
    if len(pair) == 2:
        gained, lost = (sum(sign * gain(row, pair) > 0 for row in problems) for sign in (1, -1))
        yield Remark(
            f"{gained} of {len(problems)} problems gained, {lost} lost: the problem map, with both texts one click away",
            "results",
        )
    if pair:
        yield Remark(f"What {pair[-1]} writes: Traces", "traces")


def _best(scores: Scores) -> tuple[str, Figures]:
    return max(scores.subjects.items(), key=lambda item: item[1].lenient.value)


def _span(figure: Figure) -> str:
    return f"{percent(figure.low)} to {percent(figure.high)}"


def _counts(figure: CountedFigure) -> str:
    return f"{figure.count} of {figure.total} samples"


def forest_of(subjects: Mapping[str, Figures]) -> list[tuple[str, Figure]]:
    """Name and pass@1 of each subject."""
    return [(name, figures.lenient) for name, figures in subjects.items()]
