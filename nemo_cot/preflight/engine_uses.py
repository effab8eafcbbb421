"""Which models the chain samples, by what engine, and what is known of each before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from nemo_cot.config import OWN_SUBJECTS, Config, ModelTeacher, SamplingConfig
from nemo_cot.config.engines import EngineConfig
from nemo_cot.config.model import ModelConfig
from nemo_cot.config.refine import RefinePass
from nemo_cot.evaluation.subjects import engine_of, sampling_of
from nemo_cot.io.paths import user_path
from nemo_cot.models.facts import ModelFacts, context_tokens, model_facts


@dataclass(frozen=True)
class EngineUse:
    """One model that is sampled: by what, how, and where it lies (None: not known before the run).

    ``engine_key`` is the config key of the engine. ``trace_tokens``: of a trace in the prompt, beside the problem.
    ``model`` is the config of the run's own base model, None for another. ``length_key`` and
    ``new_tokens_key`` are the config keys of the server's context and of the limit of new tokens.
    """

    key: str
    label: str
    engine: EngineConfig
    sampling: SamplingConfig
    path: str | None
    model: ModelConfig | None
    length_key: str
    new_tokens_key: str
    engine_key: str
    trace_tokens: int = 0

    @property
    def stage(self) -> str:
        return "generate" if self.key == "teacher" else self.key

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
    subjects = cfg.evaluate.subjects if "evaluate" in cfg.launcher.stages else []
    passes = cfg.refine.each() if "refine" in cfg.launcher.stages else []
    return [*uses, *(_pass(cfg, one) for one in passes), *(_subject(cfg, name) for name in subjects)]


def _teacher(cfg: Config, teacher: ModelTeacher) -> EngineUse:
    own = None if teacher.path else cfg.model
    return EngineUse(
        "teacher", "teacher", teacher.engine, teacher.sampling, teacher.path or cfg.model.path, own,
        "teacher.engine.server.max_model_len", "teacher.sampling.max_new_tokens", "teacher.engine",
    )  # fmt: skip


def _pass(cfg: Config, one: RefinePass) -> EngineUse:
    given = cfg.refine.passes[one.number - 1].get("engine")
    key = f"refine.engines.{given}" if given else "refine.engine"
    return EngineUse(
        "refine", one.stage.partition("/")[2], one.engine, one.sampling, one.path or cfg.model.path,
        None if one.path else cfg.model, f"{key}.server.max_model_len", "refine.sampling.max_new_tokens", key,
        trace_tokens=cfg.curate.max_tokens,
    )  # fmt: skip


def _subject(cfg: Config, name: str) -> EngineUse:
    other = None if name in OWN_SUBJECTS else cfg.evaluate.models[name]
    alone = f"evaluate.models.{name}"
    length = (
        f"{alone}.max_model_len" if other and other.max_model_len else "evaluate.engine.server.max_model_len"
    )
    new = f"{alone}.max_new_tokens" if other and other.max_new_tokens else "evaluate.sampling.max_new_tokens"
    path, own = (other.path, None) if other else (cfg.model.path, cfg.model)
    return EngineUse("evaluate", name, engine_of(cfg, name), sampling_of(cfg, name), path, own, length, new, "evaluate.engine")
