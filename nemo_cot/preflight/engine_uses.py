"""Which models the chain samples, by what engine, and what is known of each before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from nemo_cot.config import Config, ModelTeacher, SamplingConfig
from nemo_cot.config.engines import EngineConfig
from nemo_cot.config.model import ModelConfig
from nemo_cot.config.refine import RefinePass
from nemo_cot.errors import UserError
from nemo_cot.evaluation.sets import HeldOut, held_out_sets
from nemo_cot.evaluation.subjects import engine_of, sampling_of, subject_names
from nemo_cot.io.paths import user_path
from nemo_cot.models.facts import ModelFacts, context_tokens, model_facts
from nemo_cot.serving.own_values import left_open, of_file
from nemo_cot.text import PromptFormat, TextTokenizer
from nemo_cot.traces.teachers import asked


@dataclass(frozen=True)
class EngineUse:
    """One model that is sampled by ``stage``: by what, how, and where it lies (None: not known before the run).

    ``key``: the part of the config that holds its sampling, ``engine_key`` that of its engine. ``model`` is the config of
    the run's own base model, None for another; ``form`` how it is asked. ``length_key`` and ``new_tokens_key`` are the
    config keys of the server's context and of the limit of new tokens. ``samples`` are drawn of each of the ``part``
    (train, heldout) problems, in ``chunks``; ``heldout`` is their set. ``trace_tokens``: of traces in the prompt, beside the
    problem; of examples that are not chosen yet the fewest that there can be.
    """

    stage: str
    key: str
    label: str
    engine: EngineConfig
    sampling: SamplingConfig
    path: str | None
    model: ModelConfig | None
    form: PromptFormat
    length_key: str
    new_tokens_key: str
    part: str
    samples: int
    chunks: int
    engine_key: str
    trace_tokens: int = 0
    heldout: HeldOut | None = None

    @property
    def shown(self) -> str:
        """The label, with the held-out set that is not the run's own."""
        return self.heldout.named(self.label) if self.heldout else self.label

    @property
    def recipe(self) -> str:
        """The recipe of ``stage``."""
        return self.stage.partition("/")[0]

    @property
    def tokenizer(self) -> bool:
        """Whether the stage has the model's tokenizer: of all but a teacher or an editor that only an endpoint has."""
        client = self.engine.client
        theirs = client is not None and client.server.base_url is not None
        return self.key == "evaluate" or not theirs or self.model is None

    @property
    def own_values(self) -> list[str]:
        """Sampling values that a server which the stage starts would take from the model's own generation_config.json."""
        client, folder = self.engine.client, user_path(self.path) if self.path and self.label.partition("@")[0] != "trained" else None
        keys = left_open(client, tokenizer=self.tokenizer) if client else []
        try:
            return of_file(folder, keys, set(TextTokenizer(folder, self.form).stop_ids)) if folder and keys else []
        except UserError:
            return []  # of a tokenizer, which is another rule's

    @cached_property
    def facts(self) -> ModelFacts:
        """What is known of the model: of its own files where they are here, or else of the config."""
        folder = user_path(self.path) if self.path else None
        return model_facts(folder, self.model.shape if self.model else None)

    @property
    def heads(self) -> tuple[int, int] | None:
        """Attention heads and key-value heads; also of a mixture of experts, which has no shape here."""
        config, shape = self.facts.config or {}, self.facts.shape
        if heads := config.get("num_attention_heads"):
            return heads, config.get("num_key_value_heads") or heads
        return (shape.heads, shape.kv_heads) if shape else None

    def splits(self, size: int) -> bool:
        """Whether ``size`` GPUs of one copy can share the heads: vLLM repeats key-value heads that are fewer."""
        if self.heads is None:
            return True
        heads, kv_heads = self.heads
        return not (heads % size or (kv_heads % size and size % kv_heads))

    @property
    def context(self) -> int | None:
        """Tokens that the model has positions for, of its config.json, or else of the config."""
        if self.facts.config and (length := context_tokens(self.facts.config)):
            return length
        return self.model.max_position_embeddings if self.model else None


def engine_uses(cfg: Config) -> list[EngineUse]:
    """Every model that the chain's stages sample."""
    teacher = cfg.teacher.by_model if "generate" in cfg.launcher.stages else None
    uses = [_teacher(cfg, teacher)] if teacher else []
    subjects = subject_names(cfg) if "evaluate" in cfg.launcher.stages else []
    passes = cfg.refine.each() if "refine" in cfg.launcher.stages else []
    of_sets = [(one, name) for one in held_out_sets(cfg) for name in subjects]
    return [*uses, *(_pass(cfg, one) for one in passes), *(_subject(cfg, one, name) for one, name in of_sets)]


def _teacher(cfg: Config, teacher: ModelTeacher) -> EngineUse:
    own = None if teacher.path else cfg.model
    return EngineUse(
        "generate", "teacher", "teacher", teacher.engine, teacher.sampling, teacher.path or cfg.model.path, own,
        asked(cfg, teacher)[0], "teacher.engine.server.max_model_len", "teacher.sampling.max_new_tokens",
        "train", cfg.generate.samples_per_problem, cfg.generate.chunks, "teacher.engine",
    )  # fmt: skip


def _pass(cfg: Config, one: RefinePass) -> EngineUse:
    given = cfg.refine.passes[one.number - 1].get("engine")
    key = f"refine.engines.{given}" if given else "refine.engine"
    return EngineUse(
        one.stage, "refine", one.stage.partition("/")[2], one.engine, one.sampling, one.path or cfg.model.path,
        None if one.path else cfg.model, PromptFormat(one.template, one.end_of_turn), f"{key}.server.max_model_len",
        "refine.sampling.max_new_tokens", "train", cfg.generate.samples_per_problem, 1, key,
        trace_tokens=cfg.curate.max_tokens,
    )  # fmt: skip


def _subject(whole: Config, one: HeldOut, name: str) -> EngineUse:
    cfg = one.cfg
    other = cfg.evaluate.models.get(name)
    alone = f"evaluate.models.{name}"
    length = (
        f"{alone}.max_model_len" if other and other.max_model_len else "evaluate.engine.server.max_model_len"
    )
    new = f"{alone}.max_new_tokens" if other and other.max_new_tokens else "evaluate.sampling.max_new_tokens"
    if sampling_of(cfg, name) != sampling_of(whole, name):
        new = f"evaluate.sets.{one.name}.max_new_tokens"
    path, own = (other.path, None) if other else (cfg.model.path, cfg.model)
    asks = other or cfg.model
    form = PromptFormat(asks.prompt, asks.end_of_turn, asks.eos_token)
    examples = cfg.evaluate.examples_of(name)
    return EngineUse(
        one.stage(name), "evaluate", name, engine_of(cfg, name), sampling_of(cfg, name), path, own, form, length,
        new, "heldout", cfg.evaluate.samples_per_problem, cfg.evaluate.chunks, "evaluate.engine",
        trace_tokens=examples.number * cfg.curate.min_tokens if examples and not (examples.run or examples.file) else 0,
        heldout=one,
    )  # fmt: skip
