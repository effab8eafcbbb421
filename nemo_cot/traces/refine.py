"""Refinement: passes in which a model edits traces. What becomes of each text is decided by stated rules, and
counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nemo_cot.config.prompts import PromptConfig
from nemo_cot.config.refine import RefinePass
from nemo_cot.errors import UserError
from nemo_cot.io.json_file import write_json
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.records import Problem, Trace
from nemo_cot.sampling.chunks import GENERATIONS
from nemo_cot.text import PromptFormat
from nemo_cot.traces.edits import share
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.steps import segment
from nemo_cot.traces.thought import split_thought

if TYPE_CHECKING:
    from nemo_cot.config import Config, GradeConfig
    from nemo_cot.stages import Output

REFINED = "refined.jsonl"


def generations(cfg: Config) -> Output:
    """The traces that are graded: those of generate, or of the last pass of refine where it applies."""
    from nemo_cot.stages import Output

    passes = cfg.refine.each()
    return Output(passes[-1].stage, REFINED) if passes else Output("generate", GENERATIONS)


def refine_traces(
    one: RefinePass,
    prompt: PromptConfig,
    traces: Sequence[Trace],
    marks: Marks,
    grade: GradeConfig,
    model: Path | None,
    folder: Path,
) -> Counter[str]:
    """Write ``folder``/generations.jsonl (the replies, each with what was asked), refined.jsonl (the traces
    after the pass, in their order) and outcomes.json (how many had which outcome), which is returned.

    Replies that came before a kill are not asked for again. Raises UserError where every trace is dropped,
    and as the engine does.
    """
    from nemo_cot.sampling.engines import sample
    from nemo_cot.sampling.job import SamplingJob

    chat = one.engine.client is not None and one.engine.client.endpoint == "chat"
    asked = []
    for trace in traces:
        user = prompt.filled(fields(trace, one.beginning, marks))
        question = user if chat else prompt.in_one_message(user)
        asked.append(
            Problem(
                problem_id=f"{trace.problem_id}:{trace.sample}",
                problem=question,
                expected_answer=trace.expected_answer,
            )
        )
    job = SamplingJob(
        model,
        PromptFormat("{problem}" if chat else one.template, one.end_of_turn),
        asked,
        range(1),
        seed=one.seed,
        sampling=one.sampling,
        lineage=one.stage,
        folder=folder,
        label=one.stage,
        turns=tuple(prompt.turns) if chat else (),
    )
    sample(one.engine, job)
    replies = read_jsonl(folder / GENERATIONS, Trace)
    after, outcomes = decided(one, prompt, traces, replies, marks, grade)
    if not after:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
        raise UserError(f"every trace was dropped ({counts})", where=one.stage,
                        fix="change the prompt, or set refine.changed, refine.empty and refine.cut to revert")  # fmt: skip
    write_jsonl(folder / REFINED, after)
    write_json(folder / "outcomes.json", dict(sorted(outcomes.items())))
    return outcomes


def fields(trace: Trace, beginning: float, marks: Marks) -> dict[str, str]:
    """The values of a prompt's fields for ``trace``."""
    parts = split_thought(trace.generation, marks)
    return {
        "problem": trace.problem,
        "generation": trace.generation,
        "thought": parts.thought,
        "solution": parts.solution.strip(),
        "beginning": begun(trace.generation, beginning, marks),
    }


def begun(text: str, beginning: float, marks: Marks) -> str:
    """The first ``beginning`` (0 to 1) of the thought's steps; the whole text for 1."""
    if beginning == 1:
        return text
    parts = split_thought(text, marks)
    steps = segment(parts.thought, marks)
    return parts.before + "".join(step.text for step in steps[: share(len(steps), beginning)])


def decided(
    one: RefinePass,
    prompt: PromptConfig,
    traces: Sequence[Trace],
    replies: Sequence[Trace],
    marks: Marks,
    grade: GradeConfig,
) -> tuple[list[Trace], Counter[str]]:
    """The traces after the pass, without the dropped ones, and the number per outcome: refined, or what was
    wrong with the reply (empty, unmarked, cut, changed) and what was done about it.
    """
    texts = [
        new_text(prompt, trace, reply.generation, one.beginning, marks)
        for trace, reply in zip(traces, replies, strict=True)
    ]
    changed = answers_changed(traces, [text or "" for text in texts], grade)
    after, outcomes = [], Counter()
    for trace, reply, text, other in zip(traces, replies, texts, changed, strict=True):
        trouble, rule = None, "keep"
        if not text:
            trouble, rule = ("unmarked" if reply.generation.strip() else "empty"), one.empty
        elif reply.finish_reason != "stop":
            trouble, rule = "cut", one.cut
        elif other:
            trouble, rule = "changed", one.changed
        outcome = f"{trouble}: {_DONE[rule]}" if trouble else "refined"
        outcomes[outcome] += 1
        step = {"refined_by": one.prompt, "pass": one.number, "outcome": outcome, "seed": one.seed,
                "tokens": reply.num_generated_tokens, "finish_reason": reply.finish_reason}  # fmt: skip
        if rule == "keep":
            changes = {"generation": text, "finish_reason": reply.finish_reason,
                       "num_generated_tokens": reply.num_generated_tokens}  # fmt: skip
            trace = msgspec.structs.replace(trace, **changes)
        if rule != "drop":
            after.append(trace.with_step(**step))
    return after, outcomes


_DONE = {"keep": "kept", "revert": "reverted", "drop": "dropped"}


def new_text(prompt: PromptConfig, trace: Trace, reply: str, beginning: float, marks: Marks) -> str | None:
    """The trace's text by the reply; None where the reply has none."""
    if prompt.between:
        opening, closing = prompt.between
        end = reply.rfind(closing)
        start = reply.rfind(opening, 0, end) if end >= 0 else -1
        if start < 0:
            return None
        reply = reply[start + len(opening) : end]
    reply = reply.strip()
    if not reply:
        return None
    if prompt.result == "thought":
        return split_thought(trace.generation, marks).with_thought(reply)
    if prompt.result == "append":
        start = begun(trace.generation, beginning, marks)
        return start + ("" if not start or re.search(r"\s$", start) else "\n\n") + reply
    return reply


def answers_changed(before: Sequence[Trace], after: Sequence[str], config: GradeConfig) -> list[bool]:
    """Whether the final answer of each text ``after`` is another one than before: unless the grader finds the two equal
    (right), or, where they are no mathematics, they vote together, it is. A text without an answer has none to change.
    """
    from nemo_cot.grading import grade_many
    from nemo_cot.grading.scorers import load_scorer

    changed, pairs = [], {}
    for place, (trace, text) in enumerate(zip(before, after, strict=True)):
        scorer = load_scorer(trace.scorer, trace.scorer_data, where=f"trace {trace.problem_id}")
        old, new = (
            scorer.extract(each, fallback=config.fallback, thoughts=config.thoughts).answer
            for each in (trace.generation, text)
        )
        changed.append(old is not None and (new is None or scorer.ballot(old) != scorer.ballot(new)))
        if trace.scorer is None and old is not None:
            pairs[place] = (old, new)
    verdicts = grade_many([*pairs.values()], workers=config.workers, deadline_seconds=config.deadline_seconds)
    for place, verdict in zip(pairs, verdicts):
        changed[place] = verdict.outcome != "right"
    return changed
