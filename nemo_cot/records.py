"""Rows that stages exchange, as JSON lines with the key names of NeMo-Skills.

Fields that a stage does not know are dropped by these types; code that must keep them (the
``grade`` command on files of other projects) reads plain dicts instead.
"""

from __future__ import annotations

from typing import Any

import msgspec


def row_id(row: dict[str, Any]) -> str | None:
    """``problem_id``, or else ``id``, as text; None without either. A number 0 is an id."""
    value = row.get("problem_id") if row.get("problem_id") is not None else row.get("id")
    return None if value is None else str(value)


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One problem with its gold answer. ``expected_answer`` is text, also for numbers.

    ``scorer`` says how answers are scored (a module of nemo_cot.grading.scorers; None: as mathematics), and
    ``scorer_data`` what it needs beside the expected answer. Both go with every trace of the problem.
    """

    problem_id: str
    problem: str
    expected_answer: str
    subset_for_metrics: str | None = None
    reference_solution: str | None = None
    scorer: str | None = None
    scorer_data: dict[str, Any] | None = None


class Trace(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One solution: ``generation`` is the text after the prompt, without the end-of-turn token.

    ``num_generated_tokens`` counts the tokens of the model that wrote it, ``num_student_tokens`` those of the
    student, from curate on; both with the end-of-turn token. ``finish_reason`` is "stop" (the end-of-turn
    token came) or "length".
    ``verdict`` is "right", "wrong" or "undecided"; absent before grading. ``symbolic_correct`` and
    ``nemo_skills_answer`` come from NeMo-Skills' own rule.
    ``trains_end_of_turn``: whether the student is to learn to stop behind it.
    ``lineage`` lists what made and changed the trace, oldest first.
    """

    problem_id: str
    sample: int
    problem: str
    expected_answer: str
    generation: str
    num_generated_tokens: int
    finish_reason: str
    num_student_tokens: int | None = None
    subset_for_metrics: str | None = None
    scorer: str | None = None
    scorer_data: dict[str, Any] | None = None
    predicted_answer: str | None = None
    answer_source: str | None = None
    verdict: str | None = None
    verdict_reason: str | None = None
    symbolic_correct: bool | None = None
    nemo_skills_answer: str | None = None
    grader_version: str | None = None
    trains_end_of_turn: bool = True
    lineage: list[dict[str, Any]] = msgspec.field(default_factory=list)

    @classmethod
    def of(cls, problem: Problem, **own: Any) -> Trace:
        """A trace with the fields of its problem copied from ``problem``."""
        return cls(
            problem_id=problem.problem_id,
            problem=problem.problem,
            expected_answer=problem.expected_answer,
            subset_for_metrics=problem.subset_for_metrics,
            scorer=problem.scorer,
            scorer_data=problem.scorer_data,
            **own,
        )

    @property
    def source(self) -> dict[str, Any]:
        """Further columns of its file (annotator, stage, ...), out of the lineage; empty without."""
        return next((step["source"] for step in self.lineage if "source" in step), {})

    def with_step(self, **step: Any) -> Trace:
        """The same trace with ``step`` appended to its lineage."""
        return msgspec.structs.replace(self, lineage=[*self.lineage, step])


class StageEnd(msgspec.Struct):
    """A row of chain.json: how one stage of a chain ended. ``outcome``: ok, failed, interrupted or "not run: ...".

    No times: the report is made from this, and is skipped if nothing has changed.
    """

    stage: str
    outcome: str
    exit_code: int | None


class PackingFigures(msgspec.Struct):
    """packing.json. ``tokens`` counts all tokens of ``sequences``, ``trained_tokens`` those with loss;
    ``utilisation`` is the share of ``packs`` x ``capacity_tokens`` that they fill, from 0 to 1."""

    sequences: int
    packs: int
    fewest_packs_possible: int
    capacity_tokens: int
    tokens: int
    trained_tokens: int
    utilisation: float


class StepMetrics(msgspec.Struct):
    """A row of a training's metrics.jsonl: one optimizer step.

    ``loss`` is the objective (mean over the trained tokens of the global batch) before the update, ``lr``
    the learning rate of the update, ``grad_norm`` the norm before clipping, ``tokens`` those of ``packs``.
    ``token_accuracy``: share of next tokens, weighted as in the loss, whose likeliest token is the right one,
    from 0 to 1; None in files of before.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    packs: int
    tokens: int
    seconds: float
    tokens_per_second: float
    token_accuracy: float | None = None


class TraceLoss(msgspec.Struct):
    """A row of a training's trace_losses.jsonl: one trace in one step, before the update.

    ``loss``: mean over its trained ``tokens``, nats; ``token_accuracy``: the share of them that was the likeliest
    one; ``draws``: how often the step drew it.
    """

    step: int
    problem_id: str
    sample: int
    loss: float
    token_accuracy: float
    tokens: int
    draws: int
