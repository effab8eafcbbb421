"""The schema of conf/prompt: what a model is asked, as a chat with named fields. One file per prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from nemo_cot.config.checks import one_of
from nemo_cot.errors import UserError

FIELDS = ("problem", "generation", "thought", "solution", "beginning")
OF_TRACES = FIELDS[1:]
RESULTS = ("replace", "thought", "append")
_FIELD = re.compile(rf"\{{({'|'.join(FIELDS)})\}}")


@dataclass
class PromptExample:
    """A question and the answer to it, before the one that is asked."""

    user: str
    assistant: str


@dataclass
class PromptConfig:
    """``user`` holds fields in braces: {problem}; and of the trace that is refined {generation} (all of it),
    {thought}, {solution}, {beginning} (as far as the pass says). Other braces mean themselves. ``result``:
    what the reply becomes: the new trace (replace), its thought alone (thought), or what follows the
    beginning (append). ``between``: two markers; only what the reply has between them counts. Empty: all of
    it.
    """

    system: Optional[str]  # noqa: UP045
    examples: list[PromptExample]
    user: str
    result: str
    between: list[str]

    def __post_init__(self) -> None:
        one_of("prompt.result", self.result, RESULTS)
        if len(self.between) not in (0, 2) or not all(marker.strip() for marker in self.between):
            raise UserError(
                "is not two markers, or none", where="prompt.between", fix="for example ['<new>', '</new>']"
            )
        if not self.fields:
            raise UserError(
                "holds no field",
                where="prompt.user",
                fix=f"write {' or '.join(f'{{{f}}}' for f in FIELDS)} into it",
            )

    @property
    def fields(self) -> set[str]:
        """The fields that ``user`` holds."""
        return set(_FIELD.findall(self.user))

    def filled(self, values: Mapping[str, str]) -> str:
        """``user`` with the values of its fields; what stands in a value is not read again."""
        return _FIELD.sub(lambda field: values.get(field[1], field[0]), self.user)

    @property
    def turns(self) -> list[dict[str, str]]:
        """The chat before the question: the system's message and the examples."""
        said = [("system", self.system)] if self.system else []
        for example in self.examples:
            said += [("user", example.user), ("assistant", example.assistant)]
        return [{"role": role, "content": content} for role, content in said]

    def in_one_message(self, user: str) -> str:
        """All of the chat in the user's message, for engines that render a prompt with one turn."""
        examples = [f"Example:\n{e.user}\n\nAnswer:\n{e.assistant}" for e in self.examples]
        return "\n\n".join([*filter(None, [self.system]), *examples, user])


def is_prompt_name(prompt: str) -> bool:
    """Whether a prompt is the name of a file of conf/prompt, and not the prompt itself."""
    return re.fullmatch(r"[A-Za-z][\w-]*", prompt) is not None
