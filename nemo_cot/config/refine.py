"""The schema of refine: passes over the traces by a model, before they are graded. Values: conf/refine."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

import msgspec

from nemo_cot.config.checks import between, holds_problem, one_of, runtime, seed
from nemo_cot.config.engines import EngineConfig, SamplingConfig
from nemo_cot.config.prompts import OF_TRACES, PromptConfig
from nemo_cot.errors import UserError
from nemo_cot.named import converted, group, known_keys

_RULES = ("keep", "revert", "drop")


@dataclass
class _Values:
    """What RefineConfig says for all passes, and each of them may say for itself.

    ``path``: a Hugging Face directory; null: the student's base model. ``template`` holds {problem}: the format
    around a message for engines that render prompts. ``beginning``: the share of the thought's steps that the field
    {beginning} holds; 1: the whole text. ``changed``, ``empty``, ``cut``: what becomes of a trace whose final answer
    is not the same, whose new text is empty (or lacks the prompt's markers), or was cut short: keep, revert (the text
    before the pass) or drop.
    """

    engine: EngineConfig
    template: str
    end_of_turn: str
    beginning: float
    changed: str
    empty: str
    cut: str
    seed: int
    sampling: SamplingConfig
    path: Optional[str] = runtime()  # noqa: UP045


@dataclass
class RefineConfig(_Values):
    """``passes``, in this order: {prompt: NAME of conf/prompt, and any of the other keys}, which change the
    values here for that pass. None: the stage does not apply. ``engine`` of a pass: a name in ``engines``;
    without it the pass takes ``engine``.
    """

    passes: list[Any]
    engines: dict[str, EngineConfig]

    def __post_init__(self) -> None:
        self.each()

    def each(self) -> list[RefinePass]:
        """The passes, whole. Raises UserError for unknown keys and values."""
        return [self._pass(number, given) for number, given in enumerate(self.passes)]

    def _pass(self, number: int, given: Any) -> RefinePass:
        key = f"refine.passes[{number}]"
        if not isinstance(given, Mapping) or not isinstance(given.get("prompt"), str):
            raise UserError(
                f"{given!r} is not a group with a prompt", where=key, fix="for example {prompt: paraphrase}"
            )
        shared = [f.name for f in dataclasses.fields(_Values)]
        known_keys(key, given, ["prompt", *shared])
        engine, named = self.engine, given.get("engine")
        if named is not None:
            if named not in self.engines:
                fix = f"choose among {', '.join(self.engines) or 'none yet'}; one more is, among the defaults of an "
                raise UserError(f"there is no engine {named!r} in refine.engines", where=f"{key}.engine",
                                fix=f"{fix}experiment file, - /engine@refine.engines.{named}: FILE")  # fmt: skip
            engine = self.engines[named]
        own = {**dataclasses.asdict(self.sampling), **group(f"{key}.sampling", given.get("sampling") or {})}
        values = {name: getattr(self, name) for name in shared} | {"number": number + 1, "engine": engine}
        values["sampling"] = converted(SamplingConfig, own, f"{key}.sampling")
        types = typing.get_type_hints(RefinePass)
        for name in (name for name in given if name not in ("engine", "sampling")):
            try:
                values[name] = msgspec.convert(given[name], types[name])
            except msgspec.ValidationError as error:
                raise UserError(f"{error}", where=f"{key}.{name}", fix="correct this value") from None
        return RefinePass(**values)


@dataclass
class RefinePass(_Values):
    """One pass, with all of its values; ``number`` from 1."""

    number: int
    prompt: str

    def __post_init__(self) -> None:
        key = f"refine.passes[{self.number - 1}]"
        holds_problem(f"{key}.template", self.template)
        between(f"{key}.beginning", self.beginning, 0.0, 1.0)
        one_of(f"{key}.changed", self.changed, _RULES)
        one_of(f"{key}.cut", self.cut, _RULES)
        one_of(f"{key}.empty", self.empty, _RULES[1:])
        seed(f"{key}.seed", self.seed)

    @property
    def stage(self) -> str:
        """The name of its stage."""
        return f"refine/{self.number}-{self.prompt}"

    def check(self, prompt: PromptConfig) -> None:
        """Raise UserError for a prompt that shows nothing of the trace, or an engine that asks something
        else.
        """
        key, client = f"refine.passes[{self.number - 1}]", self.engine.client
        if prompt.fields.isdisjoint(OF_TRACES):
            raise UserError(f"{self.prompt} shows nothing of the trace", where=f"{key}.prompt",
                            fix=f"write one of {', '.join(f'{{{f}}}' for f in OF_TRACES)} into it, or choose another")  # fmt: skip
        if getattr(client, "prompt_config", None) is not None:
            raise UserError("the engine has a prompt of NeMo-Skills' own", where=f"{key}.engine",
                            fix="set refine.engine.prompt_config=null")  # fmt: skip
        if client and client.system_message is not None and prompt.system:
            raise UserError(
                "the prompt has a system message too",
                where=f"{key}.engine.system_message",
                fix="set one of them to null",
            )
