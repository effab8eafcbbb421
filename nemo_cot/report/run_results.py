"""From what a run has to the figures of its report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from nemo_cot.evaluation.comparison import PAPER_SUBSETS
from nemo_cot.evaluation.scores import Point, Scores
from nemo_cot.report import facts, words
from nemo_cot.report.collect import Findings
from nemo_cot.report.results import (
    PAPER,
    Bar,
    MeasureRow,
    Provenance,
    RunResults,
    SelectedTrace,
    StageRecord,
)
from nemo_cot.stages.manifest import Manifest
from nemo_cot.traces.structure.profile import Profile, transition_similarity

"""Of the bootstrap where a run does not record its own."""


def run_results(found: Findings, title: str) -> RunResults:
    """Every figure of the run's report."""
    scores, samples = found.scores, found.samples
    pair = _pair(samples) if scores else []
    problems = facts.problem_rows(samples, pair)
    confidence = scores.confidence if scores else 0.95
    sensitivity = facts.smallest_difference(*map(facts.rates, (samples[p] for p in pair)), confidence) if len(pair) == 2 else None  # fmt: skip
    papers = _papers_benchmark(scores)
    lengths = {"traces trained on": [facts.tokens_of(t) for t in found.traces]}
    lengths |= {name: [facts.tokens_of(t) for t in rows] for name, rows in samples.items()}
    lengths = {name: values for name, values in lengths.items() if values}
    accuracy = [step.token_accuracy for step in found.steps]
    return RunResults(
        name=found.name,
        title=title,
        headline=words.headline(scores, bool(found.failed)),
        remarks=list(words.remarks(found, sensitivity, papers)),
        read_next=list(words.read_next(problems, pair, found)),
        forest=_forest(scores),
        scores=scores,
        paper=list(PAPER),
        papers_benchmark=papers,
        sensitivity=sensitivity,
        budgets=facts.token_budgets(samples, scores) if scores else {},
        checkpoints=[Point(p.value, p.low, p.high, p.step) for p in scores.over_steps] if scores else [],
        pair=pair,
        problems=problems,
        lengths=facts.histogram("tokens per answer", "tokens", lengths),
        length_summaries={name: facts.summary(values) for name, values in lengths.items()},
        disagreements=facts.disagreements(samples),
        steps=found.steps,
        token_accuracy=[a for a in accuracy if a is not None],
        trace_curves=facts.trace_curves(found.trace_losses),
        dropped=found.dropped,
        packing=found.packing,
        selected=_selected(found),
        structure=_structure(found),
        like_chosen=_like_chosen(found),
        provenance=_provenance(found),
        failed=[entry.stage for entry in found.failed],
        stale=found.stale,
        damaged=list(found.damaged.values()),
    )


def _pair(samples: Mapping[str, Any]) -> list[str]:
    """The two subjects that are compared: base and trained, else the first two there are."""
    named = [name for name in ("base", "trained") if name in samples]
    return (named + [name for name in samples if name not in named])[:2]


def _papers_benchmark(scores: Scores | None) -> bool:
    subjects = list(scores.subjects.values()) if scores else []
    return bool(subjects) and {n: f.problems for n, f in subjects[0].subsets.items()} == PAPER_SUBSETS


def _forest(scores: Scores | None) -> list[Bar]:
    if scores is None:
        return []
    ours = [Bar(name, f.value, f.low, f.high) for name, f in words.forest_of(scores.subjects)]
    return ours + [Bar(f"paper: {paper.system}", paper.pass_at_1, ours=False) for paper in PAPER]


def _selected(found: Findings) -> list[SelectedTrace]:
    """From selection.jsonl; without one, the traces themselves."""
    chosen = [
        SelectedTrace(
            row.problem_id,
            row.sample,
            row.rank,
            row.rule,
            row.num_student_tokens,
            row.pass_rate,
            row.measures,
        )
        for row in found.selection
        if row.chosen
    ]
    plain = [
        SelectedTrace(t.problem_id, t.sample, rank, "", facts.tokens_of(t), None, {})
        for rank, t in enumerate(found.traces)
    ]
    return sorted(chosen, key=lambda row: row.rank or 0) or plain


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


def _provenance(found: Findings) -> Provenance:
    return Provenance(
        command=found.command,
        changed=found.changed,
        stages=[stage_record(stage, manifest) for stage, manifest in found.manifests.items()],
        missing=found.missing,
        config_yaml=found.config_yaml,
    )


def stage_record(stage: str, manifest: Manifest) -> StageRecord:
    """What the page shows of a manifest."""
    code = manifest.code
    state = " (with uncommitted changes)" if code.get("dirty") else ""
    snapshot = f", snapshot {code['snapshot']}" if code.get("snapshot") else ""
    return StageRecord(
        stage=stage,
        finished_at=manifest.finished_at,
        wall_seconds=manifest.wall_seconds,
        attempts=manifest.attempts,
        code=f"{code.get('revision') or 'unknown'}{state}{snapshot}",
        inputs={name: a.sha256 for name, a in manifest.inputs.items() if not a.part},
        outputs={name: a.sha256 for name, a in manifest.outputs.items()},
        seeds=manifest.seeds,
        hardware=manifest.hardware,
        packages=manifest.packages,
        image=manifest.image,
        reused_from=manifest.reused_from,
    )


def shared(stages: Sequence[StageRecord], field: str) -> dict[str, list[str]]:
    """The values of ``field`` (a dict rendered as text, or a text), each with the stages that have it."""
    found: dict[str, list[str]] = defaultdict(list)
    for stage in stages:
        value = getattr(stage, field)
        text = (
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value or "")
        )
        if text:
            found[text].append(stage.stage)
    return dict(found)
