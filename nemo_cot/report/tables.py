"""Tables of figures for both reports: rows, their labels, and the text of cells.

All of it is plain text, which each template escapes for its own format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nemo_cot.evaluation.scores import Change, CountedFigure, Figure, Figures, Point, Scores
from nemo_cot.records import StepMetrics
from nemo_cot.report.results import MeasureRow, Paper, SetResults

LABELS = {
    "lenient": "pass@1, lenient (answer anywhere)",
    "chance": "pass@1 of guessing (chance level)",
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
"""One row each, in this order; keys as in metrics.json, ``cut`` is finish_reasons["length"]. ``chance`` only where there is
something to guess.
"""
CURVES = ("pass_at_k", "majority_string", "majority_equivalence")


@dataclass(frozen=True)
class Cell:
    """``value`` with its ``interval`` (two ends) and the ``counts`` behind it, empty without any. ``path``:
    where in results.json the figure stands.
    """

    value: str
    interval: str = ""
    counts: str = ""
    path: str = ""


@dataclass(frozen=True)
class Table:
    """``heads`` of the columns after the first, and per row a label with its cells."""

    heads: list[str]
    rows: list[tuple[str, list[Cell]]]


def percent(share: float, digits: int = 1) -> str:
    """0.1234 as 12.3 %."""
    return f"{100 * share:.{digits}f} %"


def number(value: float) -> str:
    """Three digits, or a whole number: 0.0141, 47.4, 2,940."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"  # + 0.0: no -0.0


def p_text(value: float, resamples: int) -> str:
    """A p-value; one of 2 / resamples, the least that there is, cannot be distinguished from 0."""
    least = max(0.001, 2 / resamples)
    return f"p < {least:g}" if value < least or value <= 2 / resamples else f"p = {value:.3f}"


def label(key: str, k: int | str) -> str:
    """The label of the figure ``key`` (SET.KEY: on a further held-out set) at ``k`` samples per problem."""
    name, _, figure = key.rpartition(".")
    return (f"{name}: " if name else "") + LABELS[figure].format(k=k)


def figure(cell: Cell) -> str:
    """A cell on one line: 12.3 % [9.8, 14.9], 21 of 240."""
    interval = f" [{cell.interval}]" if cell.interval else ""
    return cell.value + interval + (f", {cell.counts}" if cell.counts else "")


EFFECT = "trained minus base, points"


def results(scores: Scores, root: str = "") -> Table:
    """Every figure of every subject, with the effect of training beside it. ``root``, here and below: where the scores
    of a further set stand in results.json, "sets.NAME."; empty for the run's own.
    """
    effect, at = scores.learning_effect, f"{root}scores.learning_effect"
    paths = {name: f"{root}scores.subjects.{name}" for name in scores.subjects}
    table = _figures(scores.subjects, scores.samples_per_problem, paths)
    if not effect:
        return table
    changes = [[change(effect[key], f"{at}.{key}") if key in effect else Cell("")] for key in _rows(scores.subjects)]
    rows = [(name, cells + more) for (name, cells), more in zip(table.rows, changes)]
    return Table([*table.heads, EFFECT], rows)


def sets(found: Mapping[str, SetResults]) -> Table:
    """pass@1 of every subject on each held-out set, the run's own (an empty name) first; no rows without a further one."""
    scored = {name: one.scores for name, one in found.items() if one.scores}
    names = list(dict.fromkeys(subject for scores in scored.values() for subject in scores.subjects))
    chances = any(f.chance is not None for scores in scored.values() for f in scores.subjects.values())
    moved = any(scores.learning_effect for scores in scored.values())
    rows = []
    for name, scores in scored.items():
        root, subjects = f"sets.{name}." if name else "", scores.subjects
        first, at = next(iter(subjects.values())), f"{root}scores.subjects"
        cells = [share(subjects[s].lenient, f"{at}.{s}.lenient") if s in subjects else Cell("") for s in names]
        cells += [_chance(first, f"{at}.{next(iter(subjects))}")] if chances else []
        effect = scores.learning_effect.get("lenient")
        cells += [change(effect, f"{root}scores.learning_effect.lenient") if effect else Cell("")] if moved else []
        rows.append((f"{name or 'held-out problems'} ({first.problems} x {scores.samples_per_problem})", cells))
    heads = [*names, *(["chance level"] if chances else []), *([EFFECT] if moved else [])]
    return Table(heads, rows if len(rows) > 1 else [])


def subsets(scores: Scores, root: str = "") -> dict[str, Table]:
    """For each subject with several subsets, its figures over all problems and per subset."""
    found = {}
    for name, own in scores.subjects.items():
        at = f"{root}scores.subjects.{name}"
        parts = {"all": (own, at), **{part: (f, f"{at}.subsets.{part}") for part, f in own.subsets.items()}}
        named = {f"{part} ({figures.problems})": (figures, path) for part, (figures, path) in parts.items()}
        if len(own.subsets) > 1:
            columns, paths = ({head: pair[which] for head, pair in named.items()} for which in (0, 1))
            found[name] = _figures(columns, scores.samples_per_problem, paths)
    return found


def over_k(scores: Scores, root: str = "") -> Table:
    """The curves of every subject, one row per k; no rows with one sample per problem."""
    columns = [
        (f"{name}: {label(key, 'k')}", getattr(found.curves, key), f"{root}scores.subjects.{name}.curves.{key}")
        for name, found in scores.subjects.items()
        for key in CURVES
    ]
    sizes = [point.k for point in columns[0][1]] if columns else []
    rows = [
        (str(k), [share(curve[i], f"{path}.{i}") for _, curve, path in columns]) for i, k in enumerate(sizes)
    ]
    return Table([head for head, *_ in columns], rows if len(rows) > 1 else [])


def paper(rows: Sequence[Paper], scores: Scores | None, root: str = "") -> Table:
    """The paper's rows, then ours by NeMo-Skills' rule, which is the paper's."""
    theirs = [
        (
            p.system,
            [
                Cell(percent(p.pass_at_1, 2), path=f"paper.{i}.pass_at_1"),
                Cell(percent(p.majority_at_64, 2), path=f"paper.{i}.majority_at_64"),
                Cell("256 x 64"),
            ],
        )
        for i, p in enumerate(rows)
    ]
    ours = [
        (
            f"this run: {name}",
            [
                *(
                    Cell(percent(f.value, 2), _ends(f, _end), path=f"{root}scores.subjects.{name}.{key}")
                    for key in ("nemo_skills_pass_at_1", "nemo_skills_majority")
                    for f in (getattr(s, key),)
                ),
                Cell(f"{s.problems} x {scores.samples_per_problem}"),
            ],
        )
        for name, s in (scores.subjects.items() if scores else ())
    ]
    return Table(["pass@1", "maj@k", "problems x samples"], theirs + ours)


def budgets(found: Mapping[str, Sequence[Point]], root: str = "") -> Table:
    """One row per budget, one column per subject."""
    rows = [
        (str(points[0].k), [share(point, f"{root}budgets.{name}.{i}") for name, point in zip(found, points)])
        for i, points in enumerate(zip(*found.values()))
    ]
    return Table(list(found), rows)


def steps(rows: Sequence[StepMetrics], accuracy: Sequence[float]) -> Table:
    """One row per step of training; token accuracy where it was measured for all of them."""
    measured = len(accuracy) == len(rows)
    table = [
        (
            str(row.step),
            [
                Cell(f"{row.loss:.4f}", path=f"steps.{i}.loss"),
                *([Cell(percent(accuracy[i]), path=f"token_accuracy.{i}")] if measured else []),
                Cell(f"{row.lr:.3g}"),
                Cell(f"{row.grad_norm:.3f}"),
                Cell(f"{row.tokens_per_second:.0f}"),
            ],
        )
        for i, row in enumerate(rows)
    ]
    heads = ["loss", *(["token accuracy"] if measured else []), "learning rate", "gradient norm", "tokens/s"]
    return Table(heads, table)


def dropped(counts: Mapping[str, int]) -> Table:
    """How many traces were dropped for each reason, the most first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return Table(
        ["traces"],
        [(reason.replace("_", " "), [Cell(str(n), path=f"dropped.{reason}")]) for reason, n in ordered],
    )


def structure(rows: Sequence[MeasureRow], like_chosen: Mapping[str, float | None]) -> Table:
    """Each measure with its interval, one column per set of traces; last, how alike the steps are to the
    chosen ones'.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.sets))

    def cell(row: MeasureRow, name: str, i: int) -> Cell:
        figure = row.sets.get(name)
        if figure is None or figure.value is None:
            return Cell("")
        interval = "" if figure.low is None else f"{number(figure.low)}, {number(figure.high)}"
        return Cell(number(figure.value), interval, path=f"structure.{i}.sets.{name}")

    table = [
        (f"{row.name.replace('_', ' ')} ({row.unit})", [cell(row, n, i) for n in names])
        for i, row in enumerate(rows)
    ]
    if like_chosen:
        alike = {name: "" if r is None else f"{r:.2f}" for name, r in like_chosen.items()}
        table.append(
            ("transitions between steps, r with chosen", [Cell(alike.get(name, "")) for name in names])
        )
    return Table(names, table)


def share(figure: Figure, path: str = "") -> Cell:
    """A share in percent, with its counts if any."""
    counts = f"{figure.count} of {figure.total}" if isinstance(figure, CountedFigure) else ""
    return Cell(percent(figure.value), _ends(figure, _end), counts, path)


def change(figure: Change, path: str = "") -> Cell:
    """A paired difference in points."""
    return Cell(points(figure.value), _ends(figure, points), path=path)


def _figures(columns: Mapping[str, Figures], k: int, paths: Mapping[str, str]) -> Table:
    """``paths``: where each column stands in results.json."""
    rows = [
        (label(key, k), [_cell(key, figures, paths.get(name)) for name, figures in columns.items()])
        for key in _rows(columns)
    ]
    return Table(list(columns), rows)


def _rows(columns: Mapping[str, Figures]) -> list[str]:
    guessed = any(figures.chance is not None for figures in columns.values())
    return [key for key in LABELS if key != "chance" or guessed]


def _chance(figures: Figures, path: str | None) -> Cell:
    return Cell("") if figures.chance is None else Cell(percent(figures.chance), path=f"{path}.chance" if path else "")


def _cell(key: str, figures: Figures, path: str | None) -> Cell:
    at = f"{path}.{'finish_reasons.length' if key == 'cut' else key}" if path else ""
    if key == "mean_tokens":
        tokens = figures.mean_tokens
        return Cell(f"{tokens.value:.1f}", _ends(tokens, "{:.1f}".format), path=at)
    if key == "chance":
        return _chance(figures, path)
    if key != "cut":
        return share(getattr(figures, key), at)
    cut = figures.finish_reasons.get("length")
    return share(cut, at) if cut else Cell("0.0 %")


def _end(value: float) -> str:
    return f"{100 * value:.1f}"


def _ends(figure: Figure | Change, write: Callable[[float], str]) -> str:
    return f"{write(figure.low)}, {write(figure.high)}"


def curve_points(scores: Scores, keys: Sequence[str]) -> dict[str, list[tuple[float, float, float, float]]]:
    """The curves of ``keys`` as (k, value, low, high), by subject and the figure's name."""
    return {
        f"{name}: {label(key, 'k')}": [(p.k, p.value, p.low, p.high) for p in curve]
        for key in keys
        for name, found in scores.subjects.items()
        if len(curve := getattr(found.curves, key)) > 1
    }
