"""The schema of evaluate.examples: solved problems before the one that is asked (few-shot prompting)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from nemo_cot.config.checks import at_least, holds_problem, one_of, runtime, seed
from nemo_cot.errors import UserError
from nemo_cot.named import converted
from nemo_cot.text import PromptFormat, Shots

ORDERS = ("as_is", "random", "longest", "shortest")


@dataclass
class ExamplesConfig:
    """``number`` traces of a set, in this ``order``: the first, a random draw by ``seed``, the longest or the shortest
    first. The set: the chosen traces of ``run`` (as in reuse: its name, or a path), or the rows of ``file`` (JSON lines
    with problem and generation); both null: those that this run chooses to train on.

    ``template``: the text of one example, with {problem} and {generation}; the asked problem gets it up to
    {generation}, in place of the model's own prompt. null: that prompt, the generation, and the end of turn, as earlier
    turns of a chat. ``separator``: the text between examples. An answer ends where separator and template would begin
    again, and at every text of ``stop``.
    """

    number: int
    order: str
    seed: int
    template: Optional[str]  # noqa: UP045
    separator: str
    stop: list[str]
    run: Optional[str] = runtime()  # noqa: UP045 (what it holds is an input of the stage)
    file: Optional[str] = runtime()  # noqa: UP045

    def __post_init__(self) -> None:
        self.check("evaluate.examples")

    def check(self, key: str) -> None:
        """Raise UserError, naming keys below ``key``, for values that are none or contradict each other."""
        at_least(f"{key}.number", self.number, 1)
        one_of(f"{key}.order", self.order, ORDERS)
        seed(f"{key}.seed", self.seed)
        if self.run is not None and self.file is not None:
            raise UserError("both are given", where=f"{key}.run, {key}.file", fix="set one of them to null")
        if not all(text.strip() for text in self.stop):
            raise UserError("holds a blank text, where every answer would end", where=f"{key}.stop", fix="leave it out")
        if self.template is None:
            return
        holds_problem(f"{key}.template", self.template)
        asked = self.template.partition("{generation}")[0]
        if self.template.count("{generation}") != 1 or "{problem}" not in asked:
            raise UserError(
                "must hold {generation} exactly once, after {problem}", where=f"{key}.template",
                fix=r'for example "Problem: {problem}\nSolution: {generation}"',
            )  # fmt: skip
        if not self.next_example and not self.stop:
            raise UserError(
                "nothing tells the next example from the answer: separator and template begin with blanks alone",
                where=f"{key}.template", fix=f"begin the template with words, or give {key}.stop",
            )  # fmt: skip

    @property
    def next_example(self) -> str:
        """The text by which the next example begins; empty where the end of turn ends an answer, or only blanks do."""
        begins = f"{self.separator}{(self.template or '').partition('{problem}')[0]}".rstrip()
        return begins if self.template is not None else ""

    def asked(self, form: PromptFormat) -> PromptFormat:
        """``form`` as it asks with examples, none of them in it yet."""
        template = self.template or f"{form.prompt}{{generation}}{form.end_of_turn}"
        prompt, _, tail = template.partition("{generation}")
        stops = tuple(dict.fromkeys(filter(None, (self.next_example, *self.stop))))
        return dataclasses.replace(form, prompt=prompt, shots=Shots((), f"{tail}{self.separator}", stops))

    def changed(self, given: Mapping[str, Any], key: str) -> ExamplesConfig:
        """With the ``given`` values of the config's ``key``. A source that is given takes the other's place."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if given.get("run") or given.get("file"):
            own |= {"run": None, "file": None}
        found = converted(ExamplesConfig, {**own, **given}, key)
        found.check(key)
        return found
