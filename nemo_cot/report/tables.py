"""Tables of figures for both reports: rows, their labels, and the text of cells.

All of it is plain text, which each template escapes for its own format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nemo_cot.evaluation.scores import Change, CountedFigure, Figure, Figures, Scores
from nemo_cot.traces.structure.profile import Figure as MeasureFigure
from nemo_cot.traces.structure.profile import Structure, transition_similarity

LABELS = {
    "lenient": "pass@1, lenient (answer anywhere)",
    "strict": "pass@1, strict (answer in a box)",
    "format_rate": "format rate (answers in a box)",
    "lenient_undecided_right": "pass@1, lenient, if every undecided answer were right",
    "nemo_skills_pass_at_1": "pass@1 by NeMo-Skills' rule",
    "nemo_skills_majority": "maj@{k} by NeMo-Skills' rule",
    "pass_at_k": "pass@{k}",
    "majority_string": "maj@{k}, string votes",
    "majority_equivalence": "maj@{k}, votes by equality",
    "undecided": "undecided",
    "no_answer": "no answer",
    "cut": "cut at the length limit",
    "mean_tokens": "mean tokens",
}
"""One row each, in this order; keys as in metrics.json, ``cut`` is finish_reasons["length"]."""
CURVES = ("pass_at_k", "majority_string", "majority_equivalence")
PAPER = (
    ("Qwen2.5-32B + SFT on 20 QwQ traces", "17.10 %", "27.73 %"),
    ("Qwen2.5-Math-72B-Instruct (baseline)", "11.72 %", "16.14 %"),
)
"""pass@1 and maj@64 on Comp-Math-24-25, from arXiv 2507.09850."""


@dataclass(frozen=True)
class Cell:
    """``value`` with its ``interval`` (two ends) and the ``counts`` behind it, empty without any."""

    value: str
    interval: str = ""
    counts: str = ""


@dataclass(frozen=True)
class Table:
    """``heads`` of the columns after the first, and per row a label with its cells."""

    heads: list[str]
    rows: list[tuple[str, list[Cell]]]


def percent(share: float, digits: int = 1) -> str:
    """0.1234 as 12.3 %."""
    return f"{100 * share:.{digits}f} %"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"  # + 0.0: no -0.0


def label(key: str, k: int | str) -> str:
    """The label of the figure ``key`` at ``k`` samples per problem."""
    return LABELS[key].format(k=k)


def results(scores: Scores) -> Table:
    """Every figure of every subject, with the effect of training beside it."""
    effect = scores.learning_effect
    table = _figures(scores.subjects, scores.samples_per_problem)
    if not effect:
        return table
    changes = [[change(effect[key]) if key in effect else Cell("")] for key in LABELS]
    rows = [(name, cells + more) for (name, cells), more in zip(table.rows, changes)]
    return Table([*table.heads, "trained minus base, points"], rows)


def subsets(scores: Scores) -> dict[str, Table]:
    """For each subject with several subsets, its figures over all problems and per subset."""
    found = {name: {"all": own, **own.subsets} for name, own in scores.subjects.items() if len(own.subsets) > 1}
    return {
        name: _figures(
            {f"{part} ({figures.problems})": figures for part, figures in parts.items()},
            scores.samples_per_problem,
        )
        for name, parts in found.items()
    }


def over_k(scores: Scores) -> Table:
    """The curves of every subject, one row per k; no rows with one sample per problem."""
    columns = [
        (f"{name}: {label(key, 'k')}", getattr(found.curves, key))
        for name, found in scores.subjects.items()
        for key in CURVES
    ]
    sizes = [point.k for point in columns[0][1]] if columns else []
    rows = [(str(k), [share(curve[i]) for _, curve in columns]) for i, k in enumerate(sizes)]
    return Table([head for head, _ in columns], rows if len(rows) > 1 else [])


def share(figure: Figure) -> Cell:
    """A share in percent, with its counts if any."""
    counts = f"{figure.count} of {figure.total}" if isinstance(figure, CountedFigure) else ""
    return Cell(percent(figure.value), _ends(figure, lambda end: f"{100 * end:.1f}"), counts)


def change(figure: Change) -> Cell:
    """A paired difference in points."""
    return Cell(points(figure.value), _ends(figure, points))


def _figures(columns: Mapping[str, Figures], k: int) -> Table:
    rows = [(label(key, k), [_cell(key, figures) for figures in columns.values()]) for key in LABELS]
    return Table(list(columns), rows)


def _cell(key: str, figures: Figures) -> Cell:
    if key == "mean_tokens":
        tokens = figures.mean_tokens
        return Cell(f"{tokens.value:.1f}", _ends(tokens, "{:.1f}".format))
    if key != "cut":
        return share(getattr(figures, key))
    return share(figures.finish_reasons.get("length") or CountedFigure(0.0, 0.0, 0.0, 0, figures.samples))


def _ends(figure: Figure | Change, write: Callable[[float], str]) -> str:
    return f"{write(figure.low)}, {write(figure.high)}"


def curve_points(
    scores: Scores, keys: Sequence[str]
) -> dict[str, list[tuple[float, float, float, float]]]:
    """The curves of ``keys`` as (k, value, low, high), by subject and the figure's name."""
    return {
        f"{name}: {label(key, 'k')}": [(p.k, p.value, p.low, p.high) for p in curve]
        for key in keys
        for name, found in scores.subjects.items()
        if len(curve := getattr(found.curves, key)) > 1
    }


def structure_table(found: Sequence[Structure]) -> Table:
    """Every measure of the pool, the chosen traces and the subjects' samples; last, how alike the steps are to the
    chosen traces'. No rows without sets.
    """
    sets = {name: profile for one in found for name, profile in one.sets.items()}
    units = {name: unit for one in found for name, unit in one.units.items()}
    rows = [
        (f"{name} ({unit})", [_measured(profile.measures.get(name)) for profile in sets.values()])
        for name, unit in units.items()
    ]
    if "chosen" in sets and len(sets) > 1:
        likeness = (transition_similarity(sets["chosen"], profile) for profile in sets.values())
        rows.append(("transitions between steps, r with chosen", [Cell("" if r is None else f"{r:.2f}") for r in likeness]))
    return Table(list(sets), rows if sets else [])


def _measured(figure: MeasureFigure | None) -> Cell:
    if figure is None or figure.value is None:
        return Cell("")
    return Cell(f"{figure.value:.3g}", f"{figure.low:.3g}, {figure.high:.3g}")
