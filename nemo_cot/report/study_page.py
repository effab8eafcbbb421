"""The page of a study: all variants in one plot and one table, the problem map of two, and texts of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nemo_cot.config.marks import MarksConfig
from nemo_cot.evaluation.graded_runs import graded_files, read_graded_run
from nemo_cot.evaluation.sets import on_set
from nemo_cot.evaluation.study_table import Row, StudyTable, set_of
from nemo_cot.report import facts, tables, words
from nemo_cot.report.build import MAX_BYTES, problem_part
from nemo_cot.report.collect import read_manifests
from nemo_cot.report.page import write_page
from nemo_cot.report.results import Bar, Headline, OnProblems, Remark, RunColumn
from nemo_cot.report.study_text import heads, repeats_text, row_cells, smallest_seen, study_notes, title_of
from nemo_cot.report.svg import forest
from nemo_cot.report.texts import TextSet, build_texts, text_name
from nemo_cot.stages import RunDirectory

MEASURE = "lenient"
"""What the first screen and the plots show; another measure of the study where it does not have this one."""
_MOST_SETS = 12
"""Variants whose texts are in the page: one run of each."""


def write_study_page(
    found: StudyTable,
    runs_dir: Path,
    path: Path,
    *,
    marks: MarksConfig | None = None,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Write the page of the table; the runs of its rows lie below ``runs_dir``."""
    rows = [row for row in found.rows if row.runs]
    shown = [text for name in ("", *found.sets) for row in rows[:_MOST_SETS] for text in _texts(row, runs_dir, name)]
    texts = build_texts(shown, marks, max_bytes)
    runs = [_column(name, runs_dir) for row in rows for name in row.runs]
    measure = _measure(found)
    compared = _compared(found, rows, runs_dir, measure)
    cells = [(row.variant, row.measures[measure]) for row in rows if measure in row.measures]
    bars = [Bar(name, cell.value, cell.low, cell.high) for name, cell in cells]
    changes = [
        Bar(row.variant, moved.value, moved.low, moved.high)
        for row in rows
        if measure in row.measures and (moved := row.measures[measure].minus_baseline) is not None
    ]
    context = {
        "r": {
            "title": title_of(found),
            "headline": study_headline(found, measure),
            "remarks": [Remark(text, "variants") for text in found.warnings] + _sensitivity(found, measure),
            "read_next": [
                Remark("All variants, all measures: Variants", "variants"),
                *words.problems_next(compared.problems, compared.pair),
            ],
        },
        "charts": {
            "forest": forest(bars, x_label=tables.label(measure, found.k_of(measure))),
            "differences": forest(changes, x_label="points against the baseline"),
        },
        "map": problem_part(compared, set_of(measure)),
        "stats": [],
        "baseline": found.baseline,
        "measure": tables.label(measure, found.k_of(measure)),
        "heads": heads(found),
        "rows": [
            (row.variant, repeats_text(row.repeats, len(row.missing)), list(row_cells(found, row.measures)))
            for row in found.rows
        ],
        "notes": study_notes(found),
        "runs": runs,
    }
    parts = {"results": len(compared.pair) == 2, "traces": texts.samples > 0}
    names = ["summary", "variants", *(name for name, there in parts.items() if there), "provenance"]
    write_page(path, "study.html.j2", context, texts, names)


def study_headline(found: StudyTable, measure: str) -> Headline:
    """Which variants differ from the baseline after the correction, and in which direction."""
    moved = {
        row.variant: row.measures[measure].minus_baseline for row in found.rows if measure in row.measures
    }
    level = 1 - found.confidence
    seen = {name: change for name, change in moved.items() if change is not None and change.p_holm < level}
    better = [name for name, change in seen.items() if change.value > 0]
    worse = [name for name, change in seen.items() if change.value < 0]
    others = len([change for change in moved.values() if change is not None])
    name = set_of(measure)
    problems = found.sets[name].problems if name else found.problems
    detail = f"{tables.label(measure, found.k_of(measure))}, {problems} problems; p-values corrected by Holm for {others} variants."
    detail += "" if found.repeated_over else " One run of each: another run of the same variant may lie elsewhere."
    if not seen:
        return Headline("unclear", f"None of {others} variants could be told from {found.baseline}.", detail)
    parts = [f"{words_of(names)} {what}" for names, what in ((better, "better"), (worse, "worse")) if names]
    verdict = "helped" if better and not worse else "hurt" if worse and not better else "measured"
    sentence = f"Of {others} variants {' and '.join(parts)} than {found.baseline}."
    return Headline(verdict, sentence, detail)


def words_of(names: Sequence[str], most: int = 4) -> str:
    """One is, or several are, with at most a few names."""
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"{len(names)} ({shown}) {'is' if len(names) == 1 else 'are'}"


def _measure(found: StudyTable) -> str:
    """Of the runs' own held-out problems, where a measure is."""
    own = [measure for measure in found.variance if not set_of(measure)]
    return MEASURE if MEASURE in own else next(iter(own or found.variance))


def _sensitivity(found: StudyTable, measure: str) -> list[Remark]:
    value = found.detectable.get(measure, float("nan"))
    text = f"{tables.label(measure, found.k_of(measure))}: {smallest_seen(found, value)}."
    return [Remark(text, "variants")] if value == value else []


def _label(row: Row) -> str:
    return f"{row.runs[0]}:{row.subject}"


def _texts(row: Row, runs_dir: Path, name: str) -> list[TextSet]:
    path = graded_files(RunDirectory(runs_dir / row.runs[0]), name).get(row.subject)
    return [TextSet.of_file(text_name(_label(row), name), on_set(_label(row), name), path)] if path else []


def _compared(found: StudyTable, rows: Sequence[Row], runs_dir: Path, measure: str) -> OnProblems:
    """The first run of the baseline and that of the variant that is farthest from it."""
    base = next((row for row in rows if row.variant == found.baseline), None)
    moved = [
        (abs(change.value), row)
        for row in rows[:_MOST_SETS]
        if measure in row.measures and (change := row.measures[measure].minus_baseline) is not None
    ]
    other = max(moved, key=lambda item: item[0])[1] if moved else None
    runs = [(row, RunDirectory(runs_dir / row.runs[0])) for row in (base, other) if row is not None]
    name = set_of(measure)
    if len(runs) < 2 or any(row.subject not in graded_files(run, name) for row, run in runs):
        return OnProblems()
    samples = {_label(row): read_graded_run(run, row.subject, _label(row), name).rows for row, run in runs}
    return OnProblems(pair=list(samples), problems=facts.problem_rows(samples, list(samples)))


def _column(name: str, runs_dir: Path) -> RunColumn:
    return RunColumn(name, "", [], list(read_manifests(RunDirectory(runs_dir / name)).values()))
