"""The graded samples of one model from a finished run, with their sampling settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.evaluation.sets import EVALUATE, on_set, stage_on
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.records import Trace
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import flatten, read_manifest

METRICS = "metrics.json"
NOT_SAMPLING = {
    "samples_per_problem", "seed", "chunks", "sampling.batch_size", "engine.server.base_url",
    "engine.server.model_name",
}  # fmt: skip
"""Keys of a sampling stage's config that may differ between compared runs, or are checked separately."""


class GradedSample(msgspec.Struct, kw_only=True):
    """A row of evaluate/scores/SUBJECT.jsonl, or a trace of the pool, without its long texts; see records.Trace."""

    problem_id: str
    sample: int
    problem: str
    expected_answer: str
    num_generated_tokens: int
    finish_reason: str
    subset_for_metrics: str | None = None
    scorer: str | None = None
    scorer_data: dict[str, Any] | None = None
    predicted_answer: str | None = None
    answer_source: str | None = None
    verdict: str | None = None
    verdict_reason: str | None = None
    num_student_tokens: int | None = None
    symbolic_correct: bool | None = None
    nemo_skills_answer: str | None = None
    grader_version: str | None = None


def tokens_of(row: GradedSample | Trace) -> int:
    """The length of a trace in tokens of the student where they were counted, else of the model that wrote it."""
    return row.num_student_tokens or row.num_generated_tokens


@dataclass(frozen=True)
class GradedRun:
    """``label``: RUN:SUBJECT, for messages. ``settings``: its sampling settings, by dotted key; None without a
    manifest. ``stale``: the scores belong to other samples than the run holds now.
    """

    label: str
    rows: Sequence[GradedSample]
    settings: dict[str, Any] | None
    stale: bool

    @property
    def problems(self) -> dict[str, tuple[str, str]]:
        """Text and expected answer of each problem, by id."""
        return {row.problem_id: (row.problem, row.expected_answer) for row in self.rows}

    @property
    def graders(self) -> list[str]:
        """The grader versions in the rows."""
        return sorted({row.grader_version or "unknown" for row in self.rows})


def scores_folder(run: RunDirectory, name: str = "") -> Path:
    """Where the graded samples of each subject on the set ``name`` (empty: the run's own) lie, and metrics.json."""
    return run.stage(stage_on(name, "scores"))


def graded_files(run: RunDirectory, name: str = "") -> dict[str, Path]:
    """The graded samples on the set ``name``, by subject."""
    return {path.stem: path for path in sorted(scores_folder(run, name).glob("*.jsonl"))}


def scored_sets(run: RunDirectory) -> list[str]:
    """The further sets on which ``run`` has scores."""
    return sorted(path.parent.parent.name for path in run.path.glob(f"{EVALUATE}/*/scores/{METRICS}"))


def common_sets(places: Sequence[tuple[RunDirectory, str]]) -> list[str]:
    """The further sets on which all of ``places``, runs with their subjects, have scores."""
    return [name for name in scored_sets(places[0][0]) if all(of in graded_files(run, name) for run, of in places)]


def read_graded_run(run: RunDirectory, subject: str, label: str, name: str = "") -> GradedRun:
    """Read the graded samples of ``subject`` in ``run`` on the set ``name``. Raises UserError if there are none."""
    files = graded_files(run, name)
    if (path := files.get(subject)) is None:
        raise not_scored(files, subject, f"{on_set(label, name)} ({run.path})")
    scores, sampled = read_manifest(path.parent), read_manifest(run.stage(stage_on(name, subject)))
    read = scores.inputs.get(subject) if scores else None
    made = sampled.outputs.get("generations.jsonl") if sampled else None
    return GradedRun(
        label=label,
        rows=read_jsonl(path, GradedSample),
        settings=_sampling(sampled.config) if sampled else None,
        stale=bool(read and made and read.sha256 != made.sha256),
    )


def _sampling(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(config).items() if key not in NOT_SAMPLING}


def not_scored(files: Iterable[str], subject: str, where: str) -> UserError:
    """There are scores of the subjects in ``files`` alone."""
    others = ", ".join(files)
    if not others:
        return UserError("this run has no scores", where=where, fix="run its stage evaluate, or name another run or set")
    fix = f"choose among {others}, with RUN:SUBJECT or --subject"
    return UserError(f"there are no scores of the subject {subject!r}", where=where, fix=fix)
