"""An evaluation as a log of inspect_ai, which `inspect view` opens: a sample per problem and epoch, with our
verdicts.

Right is C, wrong I, undecided N (no answer that could be judged), as inspect_ai names them; the reason stands
in the explanation, the lineage in the metadata. Needs the package inspect_ai (the extra `inspect`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_cot.errors import UserError
from nemo_cot.evaluation.graded_runs import graded_files, not_scored
from nemo_cot.evaluation.scores import SubjectScores, read_scores
from nemo_cot.evaluation.sets import on_set, stage_on
from nemo_cot.io.jsonl import iter_jsonl
from nemo_cot.records import Trace
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

SUFFIXES = (".eval", ".json")
SCORER = "nemo_cot"
_VALUES = {"right": "C", "wrong": "I"}
_NO_JUDGEMENT = "N"
_STOPPED = {"stop": "stop", "length": "max_tokens"}


def write_inspect_log(run: RunDirectory, subject: str, path: Path, name: str = "") -> int:
    """Write the graded samples of ``subject`` on the set ``name`` to ``path`` (.eval or .json); the number of samples.

    Raises UserError without inspect_ai, without scores, for another suffix, and for a file that exists.
    """
    if path.suffix not in SUFFIXES:
        raise UserError("is neither .eval nor .json", where=str(path), fix="name a file of either kind")
    if path.exists():
        raise UserError("exists already", where=str(path), fix="remove it, or name another file")
    files = graded_files(run, name)
    if subject not in files:
        raise not_scored(files, subject, on_set(str(run.path), name))
    try:
        from inspect_ai.log import write_eval_log
    except ImportError as error:
        raise UserError(
            f"the package inspect_ai cannot be used ({error})",
            where=str(path),
            fix="pip install 'nemo-cot[inspect]'",
        ) from None
    log = inspect_log(run, subject, files[subject], name)
    write_eval_log(log, str(path))
    return len(log.samples or ())


def inspect_log(run: RunDirectory, subject: str, rows: Path, name: str = "") -> EvalLog:
    """The log: samples, the figures of metrics.json, and where they come from."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec, EvalStats

    samples = list(_samples(rows, subject))
    manifest = read_manifest(run.stage(stage_on(name, subject)))
    scored = read_manifest(rows.parent)
    finished = manifest.finished_at if manifest else "1970-01-01T00:00:00+00:00"
    problems = list(dict.fromkeys(sample.id for sample in samples))
    spec = EvalSpec(
        created=finished,
        task=f"nemo-cot/{run.path.name}",
        dataset=EvalDataset(name=name or "held-out problems", samples=len(problems), sample_ids=problems),
        model=f"nemo-cot/{subject}",
        model_args={"sampling": manifest.config.get("sampling", {})} if manifest else {},
        config=EvalConfig(epochs=max(sample.epoch for sample in samples)),
        packages={k: v for k, v in manifest.packages.items()} if manifest else {},
        revision=_revision(manifest),
        metadata={"grader": scored.config.get("grader_version")} if scored else None,
    )
    return EvalLog(
        status="success",
        eval=spec,
        results=_results(run, name, subject, len(samples)),
        stats=EvalStats(started_at=finished, completed_at=finished),
        samples=samples,
    )


def _samples(rows: Path, subject: str) -> Iterator[EvalSample]:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput, ModelUsage
    from inspect_ai.scorer import Score

    for row in iter_jsonl(rows, Trace):
        output = ModelOutput.from_content(
            f"nemo-cot/{subject}", row.generation, stop_reason=_STOPPED.get(row.finish_reason, "unknown")
        )
        output.usage = ModelUsage(
            output_tokens=row.num_generated_tokens, total_tokens=row.num_generated_tokens
        )
        yield EvalSample(
            id=row.problem_id,
            epoch=row.sample + 1,
            input=row.problem,
            target=row.expected_answer,
            messages=[ChatMessageUser(content=row.problem), ChatMessageAssistant(content=row.generation)],
            output=output,
            scores={
                SCORER: Score(
                    value=_VALUES.get(row.verdict or "", _NO_JUDGEMENT),
                    answer=row.predicted_answer,
                    explanation=f"{row.verdict or 'ungraded'}: {row.verdict_reason or 'no reason'}",
                )
            },
            metadata={
                "subset": row.subset_for_metrics,
                "answer_source": row.answer_source,
                "lineage": row.lineage,
            },
        )


def _results(run: RunDirectory, name: str, subject: str, samples: int) -> Any:
    from inspect_ai.log import EvalMetric, EvalResults, EvalScore

    scores = read_scores(run, name)
    found: SubjectScores | None = scores.subjects.get(subject) if scores else None
    names = ("lenient", "strict", "pass_at_k", "majority_equivalence", "undecided") if found else ()
    metrics = {name: EvalMetric(name=name, value=getattr(found, name).value) for name in names}
    score = EvalScore(name=SCORER, scorer=SCORER, metrics=metrics)
    return EvalResults(total_samples=samples, completed_samples=samples, scores=[score])


def _revision(manifest: Manifest | None) -> Any:
    from inspect_ai.log import EvalRevision

    revision = manifest.code.get("revision") if manifest else None
    if not revision:
        return None
    return EvalRevision(
        type="git", origin="", commit=revision, dirty=bool(manifest and manifest.code.get("dirty"))
    )
