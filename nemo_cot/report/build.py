"""Render the findings. All text from models, traces and configs is untrusted and escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nemo_cot.evaluation.scores import Scores
from nemo_cot.io.atomic import write_text
from nemo_cot.records import Trace, TraceLoss
from nemo_cot.report.collect import Findings
from nemo_cot.report.svg import curve_chart, histogram, line_chart
from nemo_cot.report.tables import (
    CURVES,
    PAPER,
    Cell,
    curve_points,
    over_k,
    percent,
    points,
    results,
    structure_table,
    subsets,
)
from nemo_cot.report.untrusted import fenced, markdown_cell, plain

TEMPLATES = Path(__file__).parent / "templates"


def write_report(findings: Findings, folder: Path, *, title: str, num_traces_shown: int) -> None:
    """Write ``folder``/report.md and ``folder``/report.html."""
    context = {
        "f": findings,
        "title": title,
        "config_yaml": findings.config_yaml,
        "paper": PAPER,
        **_tables(findings.scores),
        "shown": _shown(findings, num_traces_shown),
        "differing": _differing(findings),
        "loss_chart": line_chart(
            [(row.step, row.loss) for row in findings.steps], x_label="step", y_label="loss"
        ),
        "accuracy_chart": line_chart(_accuracies(findings), x_label="step", y_label="token accuracy"),
        "accuracies": _accuracies(findings),
        "learned": _learned(findings),
        "length_chart": histogram(_lengths(findings), x_label="tokens per answer"),
        "structure": structure_table(findings.structures),
        "lengths": {name: _summary(values) for name, values in _lengths(findings).items() if values},
    }
    for name, html in (("report.md", False), ("report.html", True)):
        text = _environment(html=html).get_template(f"{name}.j2").render(context)
        write_text(folder / name, plain(text))


def html_page(name: str, **content: Any) -> str:
    """The page of the template ``name``, with all text in ``content`` escaped."""
    return plain(_environment(html=True).get_template(f"{name}.j2").render(content))


def _environment(*, html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "cell": markdown_cell,
        "fenced": fenced,
        "figure": figure,
    }
    return environment


def _tables(scores: Scores | None) -> dict[str, Any]:
    """The tables and charts of the figures, by their names in the templates; empty without scores."""
    if scores is None or not scores.subjects:
        return {}
    charts = [
        curve_chart(curve_points(scores, keys), x_label="k: samples per problem", y_label=name)
        for name, keys in (("pass@k", CURVES[:1]), ("maj@k", CURVES[1:]))
    ]
    [subject, *_] = scores.subjects.values()
    return {
        "results": results(scores),
        "subsets": subsets(scores),
        "over_k": over_k(scores),
        "majority_subsets": subject.curves.majority_subsets,
        "curve_charts": charts,
    }


def figure(cell: Cell) -> str:
    """A cell on one line: 12.3 % [9.8, 14.9], 21 of 240."""
    interval = f" [{cell.interval}]" if cell.interval else ""
    return cell.value + interval + (f", {cell.counts}" if cell.counts else "")


def _shown(findings: Findings, count: int) -> list[tuple[str, list[Trace]]]:
    """Traces to read: some trained on, then a right and a wrong one per subject in turn."""
    groups = [("Traces trained on", findings.traces[:count])]
    for subject, rows in findings.samples.items():
        right = [t for t in rows if t.verdict == "right"][: (count + 1) // 2]
        others = [t for t in rows if t.verdict != "right"][: count - len(right)]
        groups.append((f"Samples of the {subject} model", right + others))
    return [(name, traces) for name, traces in groups if traces]


def _differing(findings: Findings) -> list[Trace]:
    """Samples on which NeMo-Skills' rule and our grader differ."""
    rows = [t for group in findings.samples.values() for t in group]
    return [
        t for t in rows if t.symbolic_correct is not None and t.symbolic_correct != (t.verdict == "right")
    ]


def _accuracies(findings: Findings) -> list[tuple[int, float]]:
    """Token accuracy by step; empty for a trainer that does not record it."""
    return [(row.step, row.token_accuracy) for row in findings.steps if row.token_accuracy is not None]


def _learned(findings: Findings) -> list[tuple[TraceLoss, TraceLoss]]:
    """Each trace in the first and the last step that drew it, worst learned first."""
    first: dict[tuple[str, int], TraceLoss] = {}
    last: dict[tuple[str, int], TraceLoss] = {}
    for row in findings.trace_losses:
        first.setdefault((row.problem_id, row.sample), row)
        last[row.problem_id, row.sample] = row
    return sorted(((first[key], last[key]) for key in last), key=lambda pair: -pair[1].loss)


def _lengths(findings: Findings) -> dict[str, list[int]]:
    groups = {"traces": findings.traces, **findings.samples}
    return {name: [t.num_student_tokens or t.num_generated_tokens for t in rows] for name, rows in groups.items()}


def _summary(values: Sequence[int]) -> dict[str, Any]:
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "min": ordered[0],
        "median": ordered[len(ordered) // 2],
        "max": ordered[-1],
    }
