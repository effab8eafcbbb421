"""The report of several runs: one page with the table of all, the problem map of two, and the texts of each, on every
held-out set that all have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_cot.config.marks import MarksConfig
from nemo_cot.evaluation.comparison import Comparison
from nemo_cot.evaluation.graded_runs import GradedRun, graded_files
from nemo_cot.evaluation.measures import COMPARED
from nemo_cot.evaluation.sets import on_set
from nemo_cot.io.atomic import write_text
from nemo_cot.report import facts, tables, words
from nemo_cot.report.build import MAX_BYTES, changed_rows, problem_part, stat, write_results
from nemo_cot.report.collect import read_manifests
from nemo_cot.report.comparison_text import about, comparison_markdown
from nemo_cot.report.files import MARKDOWN, PAGE
from nemo_cot.report.page import write_page
from nemo_cot.report.results import PAPER, Bar, ChangedKey, ComparedSet, ComparisonResults, Remark, RunColumn
from nemo_cot.report.svg import SERIES, forest, histogram
from nemo_cot.report.texts import TextSet, build_texts, text_name
from nemo_cot.stages import RunDirectory

WIDE = tuple(key for key in COMPARED if key != "majority_string")
"""The columns of the table of variants, out of the figures that are compared."""
_MOST_SETS = 12
"""Runs whose texts are in the page."""


@dataclass(frozen=True)
class Variant:
    """A run of the comparison. ``sets``: on further held-out sets, by name. ``command`` reproduces it; ``changed``: what
    differs from the defaults.
    """

    run: RunDirectory
    subject: str
    graded: GradedRun
    command: str = ""
    changed: list[ChangedKey] = field(default_factory=list)
    sets: Mapping[str, GradedRun] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """RUN:SUBJECT."""
        return self.graded.label

    def on(self, name: str) -> GradedRun:
        """On the set ``name``; empty: the run's own."""
        return self.sets[name] if name else self.graded


def write_comparison(
    found: Comparison,
    variants: Sequence[Variant],
    folder: Path,
    *,
    title: str,
    marks: MarksConfig | None = None,
    max_bytes: int = MAX_BYTES,
    sets: Mapping[str, Comparison] | None = None,
) -> ComparisonResults:
    """Write results.json, report.md and report.html into ``folder``, which is made; what they show. ``sets``: the same
    comparison on further held-out sets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = comparison_results(found, variants, title, sets or {})
    compared = {"": results, **results.sets}
    write_results(results, folder)
    write_text(folder / MARKDOWN, comparison_markdown([one.comparison for one in compared.values()]))
    shown = [
        TextSet.of_file(text_name(v.label, name), on_set(v.label, name), graded_files(v.run, name)[v.subject])
        for name in compared
        for v in variants[:_MOST_SETS]
    ]
    texts = build_texts(shown, marks, max_bytes)
    context = {
        "r": results,
        "parts": [_part(one, name) for name, one in compared.items()],
        "charts": {"forest": forest(results.forest)},
        "stats": _stats(found),
        "run_changed": [changed_rows(run.changed) for run in results.runs],
    }
    write_page(
        folder / PAGE, "comparison.html.j2", context, texts, ("summary", "variants", "results", "traces", "provenance")
    )
    return results


def comparison_results(
    found: Comparison, variants: Sequence[Variant], title: str, sets: Mapping[str, Comparison]
) -> ComparisonResults:
    """Every figure of the report."""
    own = _compared(found, variants, "")
    compared = {name: _compared(one, variants, name) for name, one in sets.items()}
    bars = [Bar(run.run, f.value, f.low, f.high) for run in found.runs for f in (run.figures["lenient"],)]
    paper = list(PAPER) if found.papers_benchmark else []
    remarks = [Remark(text, "variants") for text in found.warnings]
    for name, one in {"": own, **compared}.items():
        said = [text for run in one.comparison.runs for text in words.many_undecided(run.run, run.undecided)]
        said += words.few_problems(one.comparison.problems, one.sensitivity)
        remarks += [Remark(f"{name}: {text}" if name else text, "variants") for text in said]
    return ComparisonResults(
        **{key: getattr(own, key) for key in own.__struct_fields__},
        name=title,
        title=title,
        headline=words.comparison_headline(found),
        remarks=remarks,
        read_next=[
            Remark("All runs, all measures: Variants", "variants"),
            *(Remark(f"{name}: {words.said(words.comparison_headline(one))}", "variants") for name, one in sets.items()),
            *words.problems_next(own.problems, own.pair),
        ],
        forest=bars + [Bar(f"paper: {p.system}", p.pass_at_1, ours=False) for p in paper],
        paper=paper,
        sets=compared,
        runs=[_column(v) for v in variants],
    )


def _compared(found: Comparison, variants: Sequence[Variant], name: str) -> ComparedSet:
    """On the set ``name``; its problem map is of the first run and the best of the others there."""
    samples = {v.label: v.on(name).rows for v in variants}
    first, *others = found.runs
    pair = [first.run, max(others, key=lambda run: run.figures["lenient"].value).run]
    lengths = {label: [row.num_generated_tokens for row in rows] for label, rows in samples.items()}
    fields = facts.on_problems(samples, pair, found.confidence, lengths)
    fields["lengths"] = facts.histogram("tokens per answer", "tokens", dict(list(lengths.items())[:SERIES]))
    return ComparedSet(**fields, comparison=found)


def _part(one: ComparedSet, name: str) -> dict[str, Any]:
    """What the templates show of the set ``name``, empty for the run's own."""
    root, found = f"sets.{name}." if name else "", one.comparison
    return {
        "name": name,
        "s": one,
        "about": about(found, found.runs[0].run),
        "tables": {"wide": wide(found, root), "differences": differences(found, root), "paper": tables.paper(PAPER, None)},
        "map": problem_part(one, name),
        "lengths": histogram(one.lengths),
    }


def _column(variant: Variant) -> RunColumn:
    return RunColumn(variant.label, variant.command, variant.changed, list(read_manifests(variant.run).values()))


def wide(found: Comparison, root: str = "") -> tables.Table:
    """One row per run, one column per measure. ``root``: where a further set stands in results.json."""
    rows = [
        (run.run, [tables.share(run.figures[key], f"{root}comparison.runs.{i}.figures.{key}") for key in WIDE])
        for i, run in enumerate(found.runs)
    ]
    return tables.Table([tables.label(key, found.k) for key in WIDE], rows)


def differences(found: Comparison, root: str = "") -> tables.Table:
    """Each run minus the first, with p-values."""
    keys = [key for key in tables.LABELS if key in COMPARED]
    rows = [
        (
            run.run,
            [_change(run.minus_first[key], f"{root}comparison.runs.{i}.minus_first.{key}", found) for key in keys],
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
        stat(run.run, run.figures["lenient"], f"comparison.runs.{i}.figures.lenient") for i, run in enumerate(found.runs)
    ]
    order = sorted(range(len(others)), key=lambda i: -found.runs[i + 1].figures["lenient"].value)
    return [first, *(others[i] for i in order[:3])]
