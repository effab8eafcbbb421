"""One piece of sampling, as every engine takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_cot.config import SamplingConfig
from nemo_cot.records import Problem, Trace
from nemo_cot.text import PromptFormat


@dataclass(frozen=True)
class SamplingJob:
    """Draw the ``samples`` of those numbers of each of ``problems`` into ``folder``/generations.jsonl.

    ``model``: its Hugging Face directory, None where only a server has it. Sample number s uses
    the seed ``seed`` + s where the engine takes one seed a request. ``lineage`` says who made the
    traces, ``label`` what the progress is called. ``turns``: of a chat, what was said before the prompt.
    ``examples``: for the lineage, the traces that are among it.
    """

    model: Path | None
    form: PromptFormat
    problems: Sequence[Problem]
    samples: range
    seed: int
    sampling: SamplingConfig
    lineage: str
    folder: Path
    label: str
    turns: tuple[dict[str, str], ...] = ()
    examples: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[tuple[Problem, int]]:
        """(problem, sample) in the order of generations.jsonl."""
        return [(problem, sample) for problem in self.problems for sample in self.samples]

    def prompt(self, problem: Problem) -> str:
        """The prompt as text: the format around the problem."""
        return self.form.text(problem.problem)

    @property
    def step(self) -> dict[str, Any]:
        """Of the lineage: what made a trace."""
        return {"made_by": self.lineage, **({"examples": list(self.examples)} if self.examples else {})}

    def trace(
        self, problem: Problem, sample: int, text: str, tokens: int, finish_reason: str, **more: object
    ) -> Trace:
        """A row of generations.jsonl; an end-of-turn token spelled out at the end is taken off, and what comes behind
        the beginning of a next example, which is where the answer stopped.
        """
        for end in filter(None, (self.form.end_of_turn, self.form.eos_token)):
            text = text.removesuffix(end)
        if (cut := self.form.cut(text)) != text:
            text, finish_reason = cut, "stop"
        return Trace.of(
            problem,
            sample=sample,
            generation=text,
            num_generated_tokens=tokens,
            finish_reason=finish_reason,
            lineage=[self.step],
            **more,
        )
