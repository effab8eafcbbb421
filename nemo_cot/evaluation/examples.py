"""Few-shot prompting: which solved problems stand before the one that is asked, and whether they may and fit."""

from __future__ import annotations

import difflib
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
from omegaconf import OmegaConf

from nemo_cot.config import Config
from nemo_cot.config.examples import ExamplesConfig
from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import iter_numbered_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.models.facts import context_tokens, read_config
from nemo_cot.records import Problem
from nemo_cot.stages import Output, RunDirectory
from nemo_cot.text import PromptFormat, TextTokenizer, named_token
from nemo_cot.traces.filters.contamination import folded
from nemo_cot.traces.transforms import chosen_traces

EXAMPLES = "examples.jsonl"


class Example(msgspec.Struct, omit_defaults=True):
    """A row of examples.jsonl, and what is read of a set of traces; ``num_tokens`` of its generation, by the tokenizer
    of the model that is asked.
    """

    problem: str
    generation: str
    problem_id: str | None = None
    sample: int | None = None
    num_tokens: int = 0

    @property
    def name(self) -> str:
        """In the lineage of a sample: problem and sample number, or else the beginning of the problem."""
        return self.problem[:60] if self.problem_id is None else f"{self.problem_id}:{self.sample or 0}"


def traces_source(cfg: Config, examples: ExamplesConfig, key: str) -> Output | Path | Callable[[], Path]:
    """The set of traces that ``examples``, the config's ``key``, are from."""
    if examples.file is not None:
        return user_path(examples.file)
    if examples.run is None:
        return chosen_traces(cfg)
    return partial(traces_of_run, examples.run, cfg.runs_dir, key=f"{key}.run")


def traces_of_run(run: str, runs_dir: str, *, key: str) -> Path:
    """The traces that ``run`` trained on: a plain name is a run in ``runs_dir``, anything else a path. Raises UserError
    for no such run, naming the nearest, and for one that has not chosen them.
    """
    plain = "/" not in run and not run.startswith(("~", "."))
    folder = user_path(runs_dir) / run if plain else user_path(run)
    if not folder.is_dir():
        beside = [p.name for p in folder.parent.iterdir()] if folder.parent.is_dir() else []
        near = difflib.get_close_matches(folder.name, beside, n=1)
        fix = f"did you mean {near[0]}?" if near else "give its name in runs_dir, or its path"
        raise UserError(f"there is no run {folder}", where=key, fix=fix)
    config = folder / "config.yaml"
    transformed = config.is_file() and OmegaConf.select(OmegaConf.load(config), "transform.steps")
    return RunDirectory(Path(os.path.realpath(folder))).artifact(
        "transform" if transformed else "curate", "traces.jsonl"
    )


@dataclass(frozen=True)
class Asked:
    """How a model is asked: ``form`` (without examples), the longest answer, and the server's context if it is known.
    ``key``: the part of the config that its examples are from.
    """

    form: PromptFormat
    max_new_tokens: int
    max_model_len: int | None
    key: str


def read_examples(path: Path) -> list[Example]:
    """All rows of a set. Raises UserError naming the line."""
    return [row for _, row in iter_numbered_jsonl(path, Example)]


def chosen_examples(
    traces: Path, config: ExamplesConfig, asked: Asked, model: Path, heldout: Sequence[Problem]
) -> list[Example]:
    """The examples that ``config`` chooses out of ``traces`` for the model in the folder ``model``, checked.

    Raises UserError for too few of them, for one that is a held-out problem (by its words, without case and
    punctuation), and where they, a problem and the longest answer exceed the context.
    """
    rows = read_examples(traces)
    if len(rows) < config.number:
        raise UserError(
            f"{config.number} examples are asked for, {traces} has {len(rows)} traces", where=f"{asked.key}.number",
            fix="lower it, or name another set",
        )  # fmt: skip
    tokenizer = TextTokenizer(model, asked.form)
    rows = [msgspec.structs.replace(row, num_tokens=n) for row, n in zip(rows, _lengths(tokenizer, rows))]
    chosen = _in_order(rows, config)[: config.number]
    _refuse_heldout(chosen, heldout, asked.key)
    _check_room(chosen, asked, model, heldout)
    return chosen


def with_examples(form: PromptFormat, examples: Sequence[Example], model: Path) -> PromptFormat:
    """``form``, as ExamplesConfig.asked made it, with these examples in it; a bos stands before the first one only."""
    bos = named_token(model, "bos_token")
    opening = bos if bos and form.prompt.startswith(bos) else ""
    pairs = tuple((example.problem, example.generation) for example in examples)
    return replace(form, shots=replace(form.shots, examples=pairs, opening=opening)) if form.shots else form


def turns(form: PromptFormat, examples: Sequence[Example]) -> tuple[dict[str, str], ...]:
    """The examples as earlier turns of a chat."""
    said = []
    for example in examples:
        said.append({"role": "user", "content": form.prompt.replace("{problem}", example.problem)})
        said.append({"role": "assistant", "content": example.generation})
    return tuple(said)


def _lengths(tokenizer: TextTokenizer, rows: Sequence[Example]) -> list[int]:
    return [length - 1 for length in tokenizer.answer_lengths([row.generation for row in rows])]


def _in_order(rows: list[Example], config: ExamplesConfig) -> list[Example]:
    if config.order == "random":
        return random.Random(config.seed).sample(rows, len(rows))
    if config.order == "as_is":
        return rows
    return sorted(rows, key=lambda row: row.num_tokens, reverse=config.order == "longest")


def _refuse_heldout(chosen: Sequence[Example], heldout: Sequence[Problem], key: str) -> None:
    by_words = {folded(problem.problem): problem for problem in heldout}
    for example in chosen:
        if (problem := by_words.get(folded(example.problem))) is not None:
            raise UserError(
                f"the example {example.problem!r} is the held-out problem {problem.problem_id}, {problem.problem!r}",
                where=key, fix="take it out of the set, or choose others by order and seed",
            )  # fmt: skip


def _check_room(chosen: Sequence[Example], asked: Asked, model: Path, heldout: Sequence[Problem]) -> None:
    own = context_tokens(read_config(model) or {})
    context = min((n for n in (asked.max_model_len, own) if n), default=None)
    if context is None or not heldout:
        return
    tokenizer = TextTokenizer(model, with_examples(asked.form, chosen, model))
    before = len(tokenizer.leading_ids)
    longest = max(heldout, key=lambda p: len(tokenizer.prompt_ids(p.problem)))
    prompt = len(tokenizer.prompt_ids(longest.problem))
    if (needed := prompt + asked.max_new_tokens) <= context:
        return
    fit = max(0, (context - asked.max_new_tokens - (prompt - before)) * len(chosen) // before)
    raise UserError(
        f"{len(chosen)} examples of {before} tokens + {prompt - before} of the problem {longest.problem_id} + "
        f"max_new_tokens {asked.max_new_tokens} = {needed}, and the model's context is {context}",
        where=f"{asked.key}.number",
        fix=f"about {fit} examples of this length fit: lower it, evaluate.sampling.max_new_tokens, or take shorter ones "
        f"({asked.key}.order=shortest)",
    )
