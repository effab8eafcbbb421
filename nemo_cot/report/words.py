"""The first screen in words: did it work, what to be careful about, and what to read next. Rules, not
opinions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nemo_cot.evaluation.comparison import Comparison
from nemo_cot.evaluation.scores import Change, CountedFigure, Figure, Figures, Scores
from nemo_cot.report.collect import Findings
from nemo_cot.report.facts import gain
from nemo_cot.report.results import Headline, ProblemRow, Remark, SetResults
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
        own = found.lenient
        sentence = f"{name}: {percent(own.value)} of its answers are right (pass@1)."
        span = f"{level} {percent(own.low)} to {percent(own.high)}"
        return Headline("measured", sentence, f"{span}, {_counts(own)}.{_guessing(scores)}")
    base, trained = scores.subjects["base"], scores.subjects["trained"]
    detail = difference(effect, scores.confidence)
    bound = trained.lenient.value - base.lenient_undecided_right.value
    if base.undecided.count:
        detail += f"; at least {points(bound)} if every undecided base answer were right"
    return Headline(*judged(effect, "Training", base.lenient, trained.lenient), f"{detail}.{_guessing(scores)}")


def said(one: Headline) -> str:
    """On one line."""
    return f"{one.sentence} {one.detail}".strip()


def difference(effect: Change, confidence: float) -> str:
    """In points, with its interval."""
    level = f"{100 * confidence:g} % interval"
    return f"{points(effect.value)} points, {level} {points(effect.low)} to {points(effect.high)}, paired by problem"


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
    detail = difference(effect, found.confidence)
    if len(others) > 1:
        detail += f"; the best of {len(others)} compared with {first.run}, so its difference is flattered"
    span = f"{percent(first.figures['lenient'].value)} ({first.run}) and {percent(best.figures['lenient'].value)} ({best.run})"
    if effect.low > 0:
        return Headline("helped", f"{best.run} is better than {first.run}: pass@1 is {span}.", f"{detail}.")
    if effect.high < 0:
        return Headline("hurt", f"{first.run} is better than the others: pass@1 is {span}.", f"{detail}.")
    return Headline("unclear", f"No difference shown: pass@1 is {span}.", f"{detail}.")


def remarks(found: Findings, own: SetResults, sets: Mapping[str, SetResults]) -> Iterator[Remark]:
    """Warnings; errors of the chain first, then what is to be known of each held-out set."""
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
    for name, one in {"": own, **sets}.items():
        for text in _of_set(one):
            yield Remark(f"{name}: {text}" if name else text, "results")
    if found.flagged:
        yield Remark(
            f"{found.flagged} traces resemble evaluation problems: see curate/flagged.jsonl.", "data"
        )
    if own.scores and not own.papers_benchmark:
        yield Remark(
            "Other problems than the paper's: its figures are shown for scale and cannot be compared.",
            "results",
        )


def _of_set(one: SetResults) -> Iterator[str]:
    if one.scores is None:
        return
    for name, figures in one.scores.subjects.items():
        yield from _subject(name, figures)
    yield from few_problems(min(figures.problems for figures in one.scores.subjects.values()), one.sensitivity)
    moved = one.scores.learning_effect.get("format_rate")
    if moved and moved.value > FORMAT_MOVED:
        yield (
            f"Part of the gain is format: boxed answers rose by {points(moved.value)} points. NeMo-Skills and the paper "
            "count boxed answers only."
        )


def _subject(name: str, figures: Figures) -> Iterator[str]:
    cut = figures.finish_reasons.get("length")
    if cut and cut.value > MANY_CUT:
        yield f"{percent(cut.value)} of the answers of {name} were cut at the length limit."
    yield from many_undecided(name, figures.undecided.value)


def many_undecided(name: str, share: float) -> Iterator[str]:
    """Where they are many."""
    if share > MANY_UNDECIDED:
        yield f"{percent(share)} of the answers of {name} are undecided and count as wrong."


def few_problems(count: int, sensitivity: float | None) -> Iterator[str]:
    """Where they are few, with what is then missed."""
    if count < FEW_PROBLEMS:
        missed = f"a true difference below {100 * (sensitivity or 0):.0f} points would often be missed"
        yield f"Only {count} problem{'s' * (count != 1)}{f': {missed}' if sensitivity else ''}."


def read_next(own: SetResults, sets: Mapping[str, SetResults], found: Findings) -> Iterator[Remark]:
    """Where to go from the first screen: the other sets in a line each."""
    for name, one in sets.items():
        if one.scores and one.scores.subjects:
            yield Remark(f"{name}: {said(headline(one.scores, failed=False))}", "results")
    yield from problems_next(own.problems, own.pair)
    if found.steps:
        yield Remark(f"Loss over {len(found.steps)} steps: Training", "training")
    if found.traces:
        yield Remark(f"The {len(found.traces)} traces that it was trained on: Data", "data")
    if found.manifests:
        yield Remark("How to run it again, and what differs from the defaults: Provenance", "provenance")


def _guessing(scores: Scores) -> str:
    chance = next((figures.chance for figures in scores.subjects.values()), None)
    return "" if chance is None else f" Guessing gives {percent(chance)}."


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


def _counts(figure: CountedFigure) -> str:
    return f"{figure.count} of {figure.total} samples"
