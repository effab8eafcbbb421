"""From what a run has to the figures of its report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nemo_cot.evaluation.comparison import is_papers_benchmark
from nemo_cot.evaluation.graded_runs import tokens_of
from nemo_cot.evaluation.scores import Scores
from nemo_cot.report import facts, words
from nemo_cot.report.collect import Evaluated, Findings
from nemo_cot.report.results import (
    PAPER,
    Bar,
    MeasureRow,
    Provenance,
    RunResults,
    SetResults,
)
from nemo_cot.stages.manifest import Manifest
from nemo_cot.traces.candidates import SelectionRow
from nemo_cot.traces.structure.profile import Profile, transition_similarity


def run_results(found: Findings, title: str) -> RunResults:
    """Every figure of the run's report."""
    own, accuracy = set_results(found, found.traces), [step.token_accuracy for step in found.steps]
    sets = {name: set_results(one) for name, one in found.sets.items()}
    return RunResults(
        **{field: getattr(own, field) for field in own.__struct_fields__},
        name=found.name,
        title=title,
        headline=words.headline(own.scores, bool(found.failed)),
        remarks=list(words.remarks(found, own, sets)),
        read_next=list(words.read_next(own, sets, found)),
        forest=_forest(own.scores),
        paper=list(PAPER),
        sets=sets,
        steps=found.steps,
        token_accuracy=[a for a in accuracy if a is not None],
        trace_curves=facts.trace_curves(found.trace_losses),
        dropped=found.dropped,
        packing=found.packing,
        selected=_selected(found),
        structure=_structure(found),
        like_chosen=_like_chosen(found),
        provenance=Provenance(found.command, found.changed, list(found.manifests.values()), found.missing),
        failed=[entry.stage for entry in found.failed],
        stale=found.stale,
        damaged=list(found.damaged.values()),
    )


def set_results(found: Evaluated, traces: Sequence[Any] = ()) -> SetResults:
    """On one held-out set; ``traces``: those trained on, whose lengths stand beside."""
    scores, samples = found.scores, found.samples
    groups = {"traces trained on": traces, **samples}
    lengths = {name: [tokens_of(row) for row in rows] for name, rows in groups.items() if rows}
    confidence = scores.confidence if scores else 0.95
    return SetResults(
        **facts.on_problems(samples, _pair(samples) if scores else [], confidence, lengths),
        scores=scores,
        papers_benchmark=_papers_benchmark(scores),
        budgets=facts.token_budgets(samples, scores) if scores else {},
        disagreements=facts.disagreements(samples),
    )


def _pair(samples: Mapping[str, Any]) -> list[str]:
    """The two subjects that are compared: base and trained, else the first two there are."""
    named = [name for name in ("base", "trained") if name in samples]
    return (named + [name for name in samples if name not in named])[:2]


def _papers_benchmark(scores: Scores | None) -> bool:
    subjects = list(scores.subjects.values()) if scores else []
    return bool(subjects) and is_papers_benchmark({n: f.problems for n, f in subjects[0].subsets.items()})


def _forest(scores: Scores | None) -> list[Bar]:
    if scores is None:
        return []
    ours = [Bar(name, f.lenient.value, f.lenient.low, f.lenient.high) for name, f in scores.subjects.items()]
    return ours + [Bar(f"paper: {paper.system}", paper.pass_at_1, ours=False) for paper in PAPER]


def _selected(found: Findings) -> list[SelectionRow]:
    """From selection.jsonl; without one, the traces themselves."""
    plain = [
        SelectionRow(
            problem_id=t.problem_id, sample=t.sample, row=row, chosen=True, rule="", rank=row,
            num_student_tokens=tokens_of(t),
        )
        for row, t in enumerate(found.traces)
    ]  # fmt: skip
    return sorted((row for row in found.selection if row.chosen), key=lambda row: row.rank or 0) or plain


def _profiles(found: Findings) -> dict[str, Profile]:
    """Of every set: the pool, the chosen traces, the subjects' samples."""
    return {name: profile for one in found.structures for name, profile in one.sets.items()}


def _structure(found: Findings) -> list[MeasureRow]:
    """Each measure that is defined for some set."""
    profiles = _profiles(found)
    units = {name: unit for one in found.structures for name, unit in one.units.items()}
    rows = [
        MeasureRow(name, unit, {key: p.measures[name] for key, p in profiles.items() if name in p.measures})
        for name, unit in units.items()
    ]
    return [row for row in rows if any(figure.value is not None for figure in row.sets.values())]


def _like_chosen(found: Findings) -> dict[str, float | None]:
    profiles = _profiles(found)
    chosen = profiles.pop("chosen", None)
    return (
        {name: transition_similarity(chosen, profile) for name, profile in profiles.items()} if chosen else {}
    )


def code_of(manifest: Manifest) -> str:
    """The revision, with what is to be known of it."""
    code = manifest.code
    state = " (with uncommitted changes)" if code.get("dirty") else ""
    snapshot = f", snapshot {code['snapshot']}" if code.get("snapshot") else ""
    return f"{code.get('revision') or 'unknown'}{state}{snapshot}"


def configs(stages: Sequence[Manifest]) -> str:
    """The config of every stage as YAML."""
    return msgspec.yaml.encode({one.stage: one.config for one in stages}).decode() if stages else ""


def shared(stages: Sequence[Manifest], field: str) -> dict[str, list[str]]:
    """The values of ``field`` in words, each with the stages that have it."""
    found: dict[str, list[str]] = defaultdict(list)
    for stage in stages:
        value = getattr(stage, field) or {}
        text = code_of(stage) if field == "code" else ", ".join(f"{k} {v}" for k, v in value.items())
        if text:
            found[text].append(stage.stage)
    return dict(found)
