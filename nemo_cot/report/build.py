"""Write a report: results.json with every figure, and the same figures as report.md and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.config.marks import MarksConfig
from nemo_cot.evaluation.scores import Figure, Scores
from nemo_cot.evaluation.sets import on_set
from nemo_cot.io.atomic import write_bytes, write_text
from nemo_cot.report import tables
from nemo_cot.report.collect import Findings
from nemo_cot.report.facts import gain
from nemo_cot.report.files import MARKDOWN, PAGE, RESULTS
from nemo_cot.report.page import address, environment, write_page
from nemo_cot.report.results import (
    ChangedKey,
    ComparisonResults,
    MeasureRow,
    OnProblems,
    RunResults,
    SetResults,
)
from nemo_cot.report.run_results import run_results
from nemo_cot.report.svg import SERIES, curve_chart, forest, histogram, line_chart, measure, problem_map
from nemo_cot.report.texts import TextSet, build_texts, text_name
from nemo_cot.report.untrusted import plain

MAX_BYTES = 50_000_000
"""Of texts in the page, unless the config says otherwise."""
_SHOWN_DISAGREEMENTS, _SHOWN_CURVES = 200, SERIES


def write_report(
    found: Findings,
    folder: Path,
    *,
    title: str,
    num_traces_shown: int,
    marks: MarksConfig | None = None,
    max_bytes: int = MAX_BYTES,
) -> RunResults:
    """Write results.json, report.md and report.html into ``folder``; what they show."""
    results = run_results(found, title)
    write_results(results, folder)
    texts = build_texts(found.texts, marks, max_bytes)
    context = {
        "r": results,
        "parts": [_part(one, name, results) for name, one in {"": results, **results.sets}.items() if one.scores],
        "tables": _tables(results),
        "trace_rows": _trace_rows(results),
        "shown": _shown(found.texts, num_traces_shown),
        "charts": _charts(results),
        "stats": _stats(results),
        "changed": changed_rows(results.provenance.changed),
        "learned": _learned(results),
    }
    write_text(folder / MARKDOWN, plain(environment(html=False).get_template("report.md.j2").render(context)))
    there = {
        "results": bool(context["parts"]),
        "training": bool(results.steps),
        "data": bool(results.selected or results.structure or results.dropped),
        "traces": texts.samples > 0,
    }
    names = ["summary", *(name for name, has in there.items() if has), "provenance"]
    write_page(folder / PAGE, "run.html.j2", context, texts, names)
    return results


def write_results(results: RunResults | ComparisonResults, folder: Path) -> None:
    """Write results.json, indented."""
    write_bytes(folder / RESULTS, msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def _tables(r: RunResults) -> dict[str, Any]:
    """By their names in the templates."""
    return {
        "sets": tables.sets({"": r, **r.sets}),
        "paper": tables.paper(r.paper, r.scores),
        "steps": tables.steps(r.steps, r.token_accuracy),
        "dropped": tables.dropped(r.dropped),
        "structure": tables.structure(r.structure, r.like_chosen),
    }


def _charts(r: RunResults) -> dict[str, Any]:
    """By their names in the templates; empty where there is nothing to draw."""
    steps = {
        "loss": [(s.step, s.loss) for s in r.steps],
        "token accuracy": list(zip((s.step for s in r.steps), r.token_accuracy))
        if len(r.token_accuracy) == len(r.steps)
        else [],
        "gradient norm": [(s.step, s.grad_norm) for s in r.steps],
        "learning rate": [(s.step, s.lr) for s in r.steps],
    }
    curves = {c.trace: list(zip(c.steps, c.losses)) for c in _spread(r.trace_curves)}
    return {
        "forest": forest(r.forest),
        "training": [line_chart({name: rows}, x_label="step", y_label=name) for name, rows in steps.items() if rows],
        "traces": line_chart(curves, x_label="step", y_label="loss per token", marks=False),
        "structure": [measure(row) for row in r.structure if _differs(row)],
    }  # fmt: skip


def _part(s: SetResults, name: str, r: RunResults) -> dict[str, Any]:
    """What the templates show of the run on the held-out set ``name``, empty for its own."""
    assert s.scores is not None
    root = f"sets.{name}." if name else ""
    budgets = {subject: [(p.k, p.value, p.low, p.high) for p in points] for subject, points in s.budgets.items()}
    saved = [(p.step, p.value, p.low, p.high) for p in s.scores.over_steps]
    return {
        "name": name,
        "s": s,
        "tables": {
            "results": tables.results(s.scores, root),
            "subsets": tables.subsets(s.scores, root),
            "over_k": tables.over_k(s.scores, root),
            "budgets": tables.budgets(s.budgets, root),
            "paper": tables.paper(r.paper, s.scores, root) if s.papers_benchmark or not name else None,
        },
        "majority_subsets": next((one.curves.majority_subsets for one in s.scores.subjects.values()), 0),
        "charts": {
            "curves": curve_charts(s.scores),
            "budgets": curve_chart(budgets, x_label="tokens", y_label="pass@1 within the budget", logarithmic=False, what="tokens"),
            "checkpoints": curve_chart({"pass@1": saved}, x_label="step", y_label="pass@1 of checkpoints", logarithmic=False, what="step"),
            "lengths": histogram(s.lengths),
        },
        "map": problem_part(s, name),
        "disagreements": [
            (d.subject, d.problem_id, d.expected, d.answer, f"{d.ours} ({d.reason})", d.nemo_skills_answer, "right" if d.nemo_skills_right else "wrong")
            for d in s.disagreements[:_SHOWN_DISAGREEMENTS]
        ],
    }  # fmt: skip


def _differs(row: MeasureRow) -> bool:
    """Whether the sets differ at all: a chart of zeros says less than its row in the table."""
    return len({figure.value for figure in row.sets.values() if figure.value is not None}) > 1


def curve_charts(scores: Scores) -> list[Any]:
    """pass@k, and maj@k under both rules of votes; none with one sample per problem."""
    kinds = (("pass@k", tables.CURVES[:1]), ("maj@k", tables.CURVES[1:]))
    found = [(name, tables.curve_points(scores, keys)) for name, keys in kinds]
    return [
        curve_chart(points, x_label="k: samples per problem", y_label=name)
        for name, points in found
        if points
    ]


def _spread(curves: Sequence[Any]) -> list[Any]:
    """A few of the curves, from the one that is learned first to the one that is learned last."""
    if len(curves) <= _SHOWN_CURVES:
        return list(curves)
    return [curves[round(i * (len(curves) - 1) / (_SHOWN_CURVES - 1))] for i in range(_SHOWN_CURVES)]


def _trace_rows(r: RunResults) -> list[tuple[str, ...]]:
    """Trace, trained tokens, when it was learned, loss and token accuracy in the first and the last step that
    drew it.
    """
    return [
        (
            c.trace,
            str(c.tokens),
            str(c.learned or "never"),
            f"{c.losses[0]:.4f} to {c.losses[-1]:.4f}",
            f"{tables.percent(c.accuracies[0])} to {tables.percent(c.accuracies[-1])}",
        )
        for c in r.trace_curves
    ]


def _learned(r: RunResults) -> str:
    if not r.trace_curves:
        return ""
    first = r.trace_curves[0]
    return (
        f"The first to be learned is {first.trace}."
        if first.learned is not None
        else "None fell to half of its first loss."
    )


def _stats(r: RunResults) -> list[dict[str, str]]:
    """The main figures of the first screen: what was measured, then the paper's."""
    subjects = r.scores.subjects if r.scores else {}
    shown = [*(name for name in r.pair if name in subjects), *(name for name in subjects if name not in r.pair)][:3]
    made = [stat(name, subjects[name].lenient, f"scores.subjects.{name}.lenient") for name in shown]
    if made:
        note = "pass@1, 20 QwQ traces, 32B" + ("" if r.papers_benchmark else "; other problems")
        made.append(
            {"label": "the paper", "value": tables.percent(r.paper[0].pass_at_1), "note": note, "path": ""}
        )
    return made


def stat(name: str, figure: Figure, path: str) -> dict[str, str]:
    """pass@1 of a subject or run, as the first screen has it."""
    cell = tables.share(figure)
    return {"label": f"{name}: pass@1", "value": cell.value, "note": f"[{cell.interval}]", "path": path}


def problem_part(one: OnProblems, name: str = "") -> dict[str, Any]:
    """The map of the pair's problems, and the table behind it, each with links to the texts; without two no chart.
    ``name``: of the held-out set.
    """
    pair = one.pair
    rows = [
        {
            "problem_id": row.problem_id,
            "subset": row.subset,
            "shares": [tables.percent(row.right[of]) if of in row.right else "none" for of in pair],
            "change": tables.points(gain(row, pair)),
            # The link to a sample of each, the second of the pair first.
            "address": address(
                *(
                    part
                    for of in reversed(pair)
                    if of in row.sample
                    for part in (text_name(of, name), row.problem_id, row.sample[of])
                )
            ),
        }
        for row in one.problems
    ]
    bars = [
        (f"{shown['problem_id']}: {shown['change']} points", gain(row, pair), shown["address"])
        for row, shown in zip(one.problems, rows)
    ]
    if len(pair) < 2:
        return {"chart": "", "pair": pair, "rows": rows}
    about = f"{pair[1]} minus {pair[0]}, points on each of {len(rows)} problems"
    return {"chart": problem_map(bars, label=about), "pair": pair, "rows": rows}


def changed_rows(changed: Sequence[ChangedKey]) -> list[tuple[str, str, str]]:
    """Key, value and default, as text."""
    return [(c.key, str(c.value), str(c.default)) for c in changed]


def _shown(texts: Sequence[TextSet], count: int) -> list[tuple[str, list[Any]]]:
    """For Markdown, traces to read: some trained on, then a right and a wrong one per subject in turn."""
    groups = []
    for one in texts:
        if one.name == "pool" or not count:
            continue
        if one.name == "chosen":
            groups.append(("Traces trained on", list(islice(one.read(), count))))
            continue
        right: list[Any] = []
        others: list[Any] = []
        for row in one.read():
            (right if row.verdict == "right" else others).append(row)
            if len(right) >= (count + 1) // 2 and len(others) >= count:
                break
        right = right[: (count + 1) // 2]
        name, _, subject = one.name.rpartition("/")
        groups.append((on_set(f"Samples of the {subject} model", name), right + others[: count - len(right)]))
    return [(name, rows) for name, rows in groups if rows]
