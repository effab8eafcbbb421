"""What answers held after so many tokens: their texts are cut there, and graded again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from nemo_cot.config import GradeConfig
from nemo_cot.grading.stage import grade_generations
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.records import Trace
from nemo_cot.stages.publish import SCRATCH
from nemo_cot.text import TextTokenizer

_GRADED = (
    "predicted_answer", "answer_source", "verdict", "verdict_reason", "symbolic_correct", "nemo_skills_answer",
    "grader_version",
)  # fmt: skip


def cut_text(tokenizer: TextTokenizer, text: str, budget: int) -> str:
    """The first ``budget`` tokens of ``text``, as the tokenizer cuts it: a model may have drawn others for it."""
    _, begins = tokenizer.answer_ids_at(text)
    return text if len(begins) <= budget else text[: begins[budget]]


def graded_within(
    rows: Sequence[Trace],
    budgets: Sequence[int],
    tokenizer: TextTokenizer,
    config: GradeConfig,
    folder: Path,
    *,
    label: str,
) -> dict[int, list[Trace]]:
    """The graded ``rows`` by budget: those of more tokens with the verdict of their text until there. Verdicts are kept
    in ``folder``/scratch, so that a killed stage does not grade them again.
    """
    found: dict[int, list[Trace]] = {}
    for budget in budgets:
        longer = [row for row in rows if row.num_generated_tokens > budget]
        cut, graded = (folder / SCRATCH / f"{label.replace(' ', '-')}-{budget}{end}.jsonl" for end in ("", "-graded"))
        cut.parent.mkdir(exist_ok=True)
        write_jsonl(cut, (_cut(row, tokenizer, budget) for row in longer))
        new: dict[tuple[str, int], Trace] = {}
        if longer:
            grade_generations(cut, graded, config, folder, label=f"{label} within {budget} tokens")
            new = {(row.problem_id, row.sample): row for row in read_jsonl(graded, Trace)}
        found[budget] = [new.get((row.problem_id, row.sample), row) for row in rows]
    return found


def _cut(row: Trace, tokenizer: TextTokenizer, budget: int) -> Trace:
    text, ungraded = cut_text(tokenizer, row.generation, budget), dict.fromkeys(_GRADED)
    return msgspec.structs.replace(
        row, generation=text, num_generated_tokens=budget, finish_reason="length", **ungraded
    )
