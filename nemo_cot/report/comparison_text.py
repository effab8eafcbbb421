"""A comparison of runs as text for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nemo_cot.errors import one_line
from nemo_cot.evaluation.comparison import ComparedRun, Comparison
from nemo_cot.evaluation.measures import COMPARED
from nemo_cot.report.results import PAPER
from nemo_cot.report.tables import LABELS, change, label, p_text, percent, share
from nemo_cot.report.untrusted import markdown_cell, plain

_ORDER = [key for key in LABELS if key in COMPARED]
_PAPER = [(p.system, percent(p.pass_at_1, 2), percent(p.majority_at_64, 2)) for p in PAPER]
_PAPER_NOTE = "the paper's own result on these problems (arXiv 2507.09850), 64 samples each"


def comparison_text(found: Comparison) -> str:
    """For a terminal: one block per figure with one line per run; 80 columns if the runs' names are short."""
    names = [*(one_line(run.run) for run in found.runs), *(system for system, *_ in _PAPER if found.papers_benchmark)]  # fmt: skip
    width = max(map(len, names))
    lines = [
        about(found, one_line(found.runs[0].run)),
        *(f"warning: {one_line(line)}" for line in found.warnings),
    ]
    for key in _ORDER:
        lines += ["", label(key, found.k)]
        for run in found.runs:
            value, difference, p_value = _cells(found, run, key)
            lines.append(f"  {one_line(run.run):{width}}  {value:23}  {difference:22}  {p_value}".rstrip())
    if found.papers_benchmark:
        lines += ["", _PAPER_NOTE]
        lines += [f"  {system:{width}}  pass@1 {one}  maj@64 {many}" for system, one, many in _PAPER]
    return "\n".join(lines) + "\n"


def comparison_markdown(sets: Sequence[Comparison]) -> str:
    """Each set of problems: one table with a row per figure and run; a second one with the paper's rows if the problems
    are the paper's.
    """
    parts = [_markdown(found) for found in sets]
    return plain(
        "\n".join(
            (f"## {markdown_cell(found.set)}\n\n" if found.set else "") + part
            for found, part in zip(sets, parts)
        )
    )


def _markdown(found: Comparison) -> str:
    lines = [about(found, markdown_cell(found.runs[0].run)), ""]
    for warning in found.warnings:
        lines += [f"**Warning:** {markdown_cell(warning)}", ""]
    lines += ["| measure | run | value | difference, points | p |", "|---|---|---|---|---|"]
    for key in _ORDER:
        for run in found.runs:
            cells = label(key, found.k), markdown_cell(run.run), *_cells(found, run, key)
            lines.append(f"| {' | '.join(cells)} |")
    if found.papers_benchmark:
        lines += ["", f"{_PAPER_NOTE[0].upper()}{_PAPER_NOTE[1:]}:", "", "| system | pass@1 | maj@64 |"]
        lines += ["|---|---|---|", *(f"| {' | '.join(row)} |" for row in _PAPER)]
    return "\n".join(lines) + "\n"


def comparison_builtins(found: Comparison) -> dict[str, Any]:
    """Plain dicts, for JSON; with the paper's rows if the problems are the paper's."""
    paper = [{"system": system, "pass_at_1": one, "majority_at_64": many} for system, one, many in _PAPER]
    return {**msgspec.to_builtins(found), "paper": paper if found.papers_benchmark else []}


def sets_builtins(found: Mapping[str, Comparison]) -> dict[str, Any]:
    """The first of the sets, and the others below ``sets``."""
    first, *others = found.values()
    return {**comparison_builtins(first), "sets": {one.set: comparison_builtins(one) for one in others}}


def about(found: Comparison, first: str) -> str:
    """What is compared, and how."""
    chance = "" if found.chance is None else f" Guessing gives a pass@1 of {percent(found.chance)}."
    return (
        f"{f'{found.set}: ' if found.set else ''}{found.problems} problems.{chance} Differences: to {first}, in points, paired by problem; "
        f"{100 * found.confidence:g} % intervals, bootstrap over problems, {found.bootstrap_resamples} resamples. "
        f"Undecided answers count as {found.undecided_counted_as}."
    )


def _cells(found: Comparison, run: ComparedRun, key: str) -> tuple[str, str, str]:
    """Value, difference and p-value of one figure; the last two are empty for the first run."""
    value = share(run.figures[key])
    shown = f"{value.value} [{value.interval}]"
    if run.minus_first is None:
        return shown, "", ""
    moved = run.minus_first[key]
    cell = change(moved)
    return shown, f"{cell.value} [{cell.interval}]", p_text(moved.p_value, found.bootstrap_resamples)
