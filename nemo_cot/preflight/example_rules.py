"""Rules for subjects that are asked with examples: looked at before anything runs, as the stage will."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.rule import Found, rule
from nemo_cot.errors import UserError
from nemo_cot.evaluation.examples import Asked, chosen_examples, read_examples, traces_source
from nemo_cot.evaluation.subjects import asked_of
from nemo_cot.io.paths import user_path
from nemo_cot.preflight.engine_uses import engine_uses
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.problems import make_problems
from nemo_cot.records import Problem
from nemo_cot.stages import Output


@rule("evaluate")
def examples_fit(cfg: Config, _: Estimate) -> Found:
    """Examples before a problem are there, are no held-out problems, and fit the model's context."""
    yield from dict.fromkeys(_each_set(cfg))  # several held-out sets may have the same to say


def _each_set(cfg: Config) -> Found:
    for use in engine_uses(cfg):
        examples = cfg.evaluate.examples_of(use.label) if use.heldout else None
        if examples is None or use.heldout is None:
            continue
        own = use.heldout.cfg
        asked, folder = asked_of(own, use.label), user_path(use.path) if use.path else None
        source = traces_source(cfg, examples, asked.key)
        if isinstance(source, Output):
            yield from _of_this_run(cfg, examples.number, asked, asked.max_model_len or use.context)
            continue
        try:
            path = source() if callable(source) else source
            if not path.exists():
                continue  # the rule inputs_exist says it
            read_examples(path)
            if folder is None or not (folder / "tokenizer.json").is_file():
                yield "unknown", f"{use.shown}: its tokenizer is not there to count the examples with", ""
            else:
                chosen_examples(path, examples, asked, folder, _heldout(own))
        except UserError as error:
            yield "error", f"{error.where}: {error.what}", error.fix


def _of_this_run(cfg: Config, number: int, asked: Asked, context: int | None) -> Found:
    """Of traces that are not chosen yet, the fewest tokens that there can be."""
    new = asked.max_new_tokens
    if number > cfg.curate.num_traces:
        yield (
            "error",
            f"{number} examples are asked for, and the run chooses {cfg.curate.num_traces} traces",
            f"lower {asked.key}.number, or raise curate.num_traces",
        )
    least = number * cfg.curate.min_tokens + new
    if context is not None and least > context:
        yield (
            "error",
            f"{number} examples of curate.min_tokens {cfg.curate.min_tokens} or more + max_new_tokens {new} = {least} "
            f"or more, and the model's context is {context}",
            f"lower {asked.key}.number, or evaluate.sampling.max_new_tokens",
        )


def _heldout(cfg: Config) -> Sequence[Problem]:
    """Those of the config; none where they cannot be made yet, which other rules say."""
    there = all(Path(user_path(path)).exists() for path in cfg.problems.files.values())
    try:
        return make_problems(cfg.problems, cfg.teacher).heldout if there else ()
    except (UserError, ImportError, OSError):
        return ()


EXAMPLE_RULES = (examples_fit,)
