"""The table of a study for a terminal and as Markdown: one row per variant, one column per measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from nemo_cot.errors import one_line
from nemo_cot.evaluation.study_table import Cell, StudyTable
from nemo_cot.report.tables import change, label, p_text, percent, share
from nemo_cot.report.untrusted import markdown_cell, plain


@dataclass(frozen=True)
class Shown:
    """A cell in words: ``value`` with its interval, and ``moved``, the difference, empty for the baseline;
    ``seen``: the difference is told from zero after the correction.
    """

    value: str
    moved: str
    seen: bool


def study_terminal(found: StudyTable) -> Table:
    """For a terminal."""
    table = Table("run", "repeats", *heads(found), title=escape(one_line(title_of(found))))
    for row in found.rows:
        cells = [f"{c.value}\n{c.moved}".rstrip() for c in row_cells(found, row.measures)]
        table.add_row(
            escape(one_line(row.variant)), repeats_text(row.repeats, len(row.missing)), *map(escape, cells)
        )
    return table


def study_notes(found: StudyTable) -> list[str]:
    """What has to be said of the table, a sentence each."""
    level = f"{100 * found.confidence:g} %"
    counts = "".join(f", {one.problems} of {name}" for name, one in found.sets.items())
    guessed = {"": found.chance, **{name: one.chance for name, one in found.sets.items()}}
    once = (
        "Every variant ran once: intervals and stars are about these runs. How far another run of the same variant would be "
        "from them is not in them; repeats show it."
    )
    over = f"The luck of what the repeats vary ({', '.join(found.repeated_over)}) is in the intervals, no other."
    if found.one_model:
        over += f" None of it is in {', '.join(found.one_model)}: no repeat would be another model."
    notes = [
        f"{found.problems} problems{counts}. Mean over repeats and problems with its {level} interval (hierarchical bootstrap, "
        f"{found.bootstrap_resamples} resamples); below it the difference to {found.baseline} in points, paired by problem "
        "and seeds, with its interval and p-value, corrected by Holm for the number of variants. "
        f"A star marks a corrected p-value below {1 - found.confidence:.2g}. Undecided answers count as "
        f"{found.undecided_counted_as}.",
        over if found.repeated_over else once,
    ]
    for name, chance in guessed.items():
        if chance is not None:
            notes.append(f"{f'{name}: g' if name else 'G'}uessing gives a pass@1 of {percent(chance)}.")
    for measure, value in found.detectable.items():
        if value > 0:  # not a number without a difference, 0 where all runs answered alike
            notes.append(
                f"{label(measure, found.k_of(measure))}: {smallest_seen(found, value)} (corrected; median over variants)."
            )
    with_runs = [len(row.runs) for row in found.rows if row.runs]
    for measure, parts in found.variance.items():
        shares = ", ".join(f"{name} {100 * part:.0f} %" for name, part in parts.items() if name != "total")
        if shares:
            notes.append(
                f"{label(measure, found.k_of(measure))}: runs of one variant differ by {100 * parts['total']:.1f} points "
                f"(standard deviation), of which (variance, from {sum(with_runs)} runs of {len(with_runs)} variants): {shares}."
            )
    missing = [name for row in found.rows for name in row.missing]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        notes.append(f"Not finished, so not in the table: {', '.join(missing[:5])}{more}.")
    return [*notes, *(f"Warning: {line}" for line in found.warnings)]


def smallest_seen(found: StudyTable, value: float) -> str:
    """What :attr:`StudyTable.detectable` means."""
    return f"a difference of {100 * value:.1f} points would have been seen here with {100 * found.power:g} % chance, a smaller one less often"


def study_markdown(found: StudyTable) -> str:
    """Title, table, notes."""
    columns = ["run", "repeats", *heads(found)]
    lines = [
        f"# {markdown_cell(title_of(found))}",
        "",
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
    ]
    for row in found.rows:
        cells = [f"{c.value}<br>{c.moved}" if c.moved else c.value for c in row_cells(found, row.measures)]
        shown = [markdown_cell(row.variant), repeats_text(row.repeats, len(row.missing)), *cells]
        lines.append(f"| {' | '.join(shown)} |")
    notes = [line for note in study_notes(found) for line in ("", markdown_cell(note))]
    return plain("\n".join([*lines, *notes]) + "\n")


def title_of(found: StudyTable) -> str:
    """Name and title of the study."""
    return f"{found.study}: {found.title}" if found.title else found.study


def heads(found: StudyTable) -> list[str]:
    """The columns of measures."""
    return [label(measure, found.k_of(measure)) for measure in found.variance]


def repeats_text(count: int, missing: int) -> str:
    """The number of repeats, and of runs that are missing."""
    return f"{count} ({missing} run{'s' * (missing > 1)} missing)" if missing else str(count)


def row_cells(found: StudyTable, measures: dict[str, Cell]) -> Iterator[Shown]:
    """The cells of a variant, one per measure."""
    for measure in found.variance:
        cell = measures.get(measure)
        if cell is None:
            yield Shown("-", "", False)
            continue
        value = share(cell)
        moved = cell.minus_baseline
        seen = moved is not None and moved.p_holm < 1 - found.confidence
        shown = ""
        if moved:
            own = change(moved)
            p_value = p_text(moved.p_holm, found.bootstrap_resamples)
            shown = f"{own.value} [{own.interval}], {p_value}{'*' * seen}"
        yield Shown(f"{value.value} [{value.interval}]", shown, seen)
