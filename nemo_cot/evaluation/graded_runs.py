"""The graded samples of one model from a finished run, with their sampling settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import flatten, read_manifest

SCORES = "evaluate/scores"
NOT_SAMPLING = {
    "samples_per_problem", "seed", "chunks", "sampling.batch_size", "engine.server.base_url",
    "engine.server.model_name",
}  # fmt: skip
"""Keys of a sampling stage's config that may differ between compared runs, or are checked separately."""


class GradedSample(msgspec.Struct, kw_only=True):
    """A row of evaluate/scores/SUBJECT.jsonl without its long texts; see records.Trace."""

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
    symbolic_correct: bool | None = None
    nemo_skills_answer: str | None = None
    grader_version: str | None = None


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


def read_graded_run(run: RunDirectory, subject: str, label: str) -> GradedRun:
    """Read the graded samples of ``subject`` in ``run``. Raises UserError if it has not been evaluated."""
    folder = run.stage(SCORES)
    path = folder / f"{subject}.jsonl"
    if not path.is_file():
        raise _not_there(run.path, folder, subject, label)
    scores, sampled = read_manifest(folder), read_manifest(run.stage(f"evaluate/{subject}"))
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


def _not_there(run: Path, folder: Path, subject: str, label: str) -> UserError:
    others = sorted(path.stem for path in folder.glob("*.jsonl"))
    if not others:
        return UserError(
            "this run has no scores",
            where=f"{label} ({run})",
            fix="run its stage evaluate, or name another run",
        )
    return UserError(
        f"there are no scores of the subject {subject!r}",
        where=f"{label} ({run})",
        fix=f"choose among {', '.join(others)}, with RUN:SUBJECT or --subject",
    )
