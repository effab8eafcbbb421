"""The report of several runs: one page with the table of all, the problem map of two, and the texts of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_cot.config.marks import MarksConfig
from nemo_cot.evaluation.comparison import Comparison
from nemo_cot.evaluation.graded_runs import SCORES, GradedRun
from nemo_cot.evaluation.measures import COMPARED
from nemo_cot.io.atomic import write_text
from nemo_cot.report import facts, tables, words
from nemo_cot.report.build import MAX_BYTES, changed_rows, map_of, problem_rows, write_results
from nemo_cot.report.collect import read_manifests
from nemo_cot.report.comparison_text import about, comparison_markdown
from nemo_cot.report.files import MARKDOWN, PAGE
from nemo_cot.report.page import write_page
from nemo_cot.report.results import PAPER, Bar, ChangedKey, ComparisonResults, Remark, RunColumn
from nemo_cot.report.run_results import stage_record
from nemo_cot.report.svg import forest, histogram
from nemo_cot.report.texts import TextSet, build_texts
from nemo_cot.stages import RunDirectory

WIDE = (
    "lenient",
    "strict",
    "format_rate",
    "pass_at_k",
    "majority_equivalence",
    "nemo_skills_pass_at_1",
    "nemo_skills_majority",
)
"""The columns of the table of variants, out of the figures that are compared."""
_MOST_SETS = 12
"""Runs whose texts are in the page."""


@dataclass(frozen=True)
class Variant:
    """A run of the comparison. ``command`` reproduces it; ``changed``: what differs from the defaults."""

    run: RunDirectory
    subject: str
    graded: GradedRun
    command: str = ""
    changed: list[ChangedKey] = field(default_factory=list)

    @property
    def label(self) -> str:
        """RUN:SUBJECT."""
        return self.graded.label


def write_comparison(
    found: Comparison,
    variants: Sequence[Variant],
    folder: Path,
    *,
    title: str,
    marks: MarksConfig | None = None,
    max_bytes: int = MAX_BYTES,
) -> ComparisonResults:
    """Write results.json, report.md and report.html into ``folder``, which is made; what they show."""
    folder.mkdir(parents=True, exist_ok=True)
    results = comparison_results(found, variants, title)
    write_results(results, folder)
    write_text(folder / MARKDOWN, comparison_markdown(found))
    sets = [
        TextSet.of_file(v.label, v.label, v.run.stage(SCORES) / f"{v.subject}.jsonl")
        for v in variants[:_MOST_SETS]
    ]
    texts = build_texts(sets, marks, max_bytes)
    context = {
        "r": results,
        "about": about(found, found.runs[0].run),
        "tables": {
            "wide": wide(found),
            "differences": differences(found),
            "paper": tables.paper(PAPER, None),
        },
        "charts": {
            "forest": forest(results.forest),
            "map": map_of(results.problems, results.pair),
            "lengths": histogram(results.lengths),
        },
        "stats": _stats(found),
        "problem_rows": problem_rows(results.problems, results.pair),
        "run_changed": [changed_rows(run.changed) for run in results.runs],
    }
    names = ("summary", "variants", "results", "traces", "provenance")
    write_page(
        folder / PAGE, "comparison.html.j2", context, texts, [(name, name.capitalize()) for name in names]
    )
    return results


def comparison_results(found: Comparison, variants: Sequence[Variant], title: str) -> ComparisonResults:
    """Every figure of the report."""
    samples = {v.label: v.graded.rows for v in variants}
    first, *others = found.runs
    best = max(others, key=lambda run: run.figures["lenient"].value)
    pair = [first.run, best.run]
    problems = facts.problem_rows(samples, pair)
    lengths = {name: [row.num_generated_tokens for row in rows] for name, rows in samples.items()}
    bars = [Bar(run.run, f.value, f.low, f.high) for run in found.runs for f in (run.figures["lenient"],)]
    paper = list(PAPER) if found.papers_benchmark else []
    undecided = [run for run in found.runs if run.undecided > words.MANY_UNDECIDED]
    remarks = [Remark(text, "variants") for text in found.warnings]
    remarks += [
        Remark(
            f"{tables.percent(run.undecided)} of the answers of {run.run} are undecided and count as wrong.",
            "variants",
        )
        for run in undecided
    ]
    sensitivity = facts.smallest_difference(*(facts.rates(samples[name]) for name in pair), found.confidence)
    if found.problems < words.FEW_PROBLEMS and sensitivity:
        seen = f"a true difference below {100 * sensitivity:.0f} points would often be missed"
        remarks.append(Remark(f"Only {found.problems} problems: {seen}.", "results"))
    shown = dict(list(lengths.items())[:6])
    return ComparisonResults(
        name=title,
        title=title,
        headline=words.comparison_headline(found),
        remarks=remarks,
        read_next=[
            Remark("All runs, all measures: Variants", "variants"),
            *words.problems_next(problems, pair),
        ],
        forest=bars + [Bar(f"paper: {p.system}", p.pass_at_1, ours=False) for p in paper],
        comparison=found,
        paper=paper,
        sensitivity=sensitivity,
        pair=pair,
        problems=problems,
        lengths=facts.histogram("tokens per answer", "tokens", shown),
        length_summaries={name: facts.summary(values) for name, values in lengths.items()},
        runs=[_column(v) for v in variants],
    )


def _column(variant: Variant) -> RunColumn:
    stages = [stage_record(name, manifest) for name, manifest in read_manifests(variant.run).items()]
    return RunColumn(variant.label, variant.command, variant.changed, stages)


def wide(found: Comparison) -> tables.Table:
    """One row per run, one column per measure."""
    rows = [
        (run.run, [tables.share(run.figures[key], f"comparison.runs.{i}.figures.{key}") for key in WIDE])
        for i, run in enumerate(found.runs)
    ]
    return tables.Table([tables.label(key, found.k) for key in WIDE], rows)


def differences(found: Comparison) -> tables.Table:
    """Each run minus the first, with p-values."""
    keys = [key for key in tables.LABELS if key in COMPARED]
    rows = [
        (
            run.run,
            [_change(run.minus_first[key], f"comparison.runs.{i}.minus_first.{key}", found) for key in keys],
        )
        for i, run in enumerate(found.runs)
        if run.minus_first is not None
    ]
    return tables.Table([tables.label(key, found.k) for key in keys], rows)


def _change(moved: Any, path: str, found: Comparison) -> tables.Cell:
    cell = tables.change(moved, path)
    return tables.Cell(
        cell.value, cell.interval, tables.p_text(moved.p_value, found.bootstrap_resamples), path
    )


def _stats(found: Comparison) -> list[dict[str, str]]:
    """The first run and the best ones, at most four."""
    first, *others = [
        {
            "label": f"{run.run}: pass@1",
            "value": cell.value,
            "note": f"[{cell.interval}]",
            "path": f"comparison.runs.{i}.figures.lenient",
        }
        for i, run in enumerate(found.runs)
        for cell in (tables.share(run.figures["lenient"]),)
    ]
    order = sorted(range(len(others)), key=lambda i: -found.runs[i + 1].figures["lenient"].value)
    return [first, *(others[i] for i in order[:3])]
