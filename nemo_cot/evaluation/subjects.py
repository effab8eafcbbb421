"""Who is evaluated: the base model, the trained one, or another that the config names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nemo_cot.config import OWN_SUBJECTS, Config, SamplingConfig
from nemo_cot.config.engines import EngineConfig
from nemo_cot.io.paths import user_path
from nemo_cot.models.convert import check_hf_directory
from nemo_cot.models.format import base_model
from nemo_cot.stages import RunDirectory
from nemo_cot.text import PromptFormat
from nemo_cot.training.backend import backend_of


@dataclass(frozen=True)
class Subject:
    """A Hugging Face directory, the prompt it is asked with, and how and by what it is sampled."""

    model: Path
    form: PromptFormat
    sampling: SamplingConfig
    engine: EngineConfig


def subject_of(cfg: Config, run: RunDirectory, name: str) -> Subject:
    """The subject that evaluate.subjects calls ``name``. Raises UserError when its model is not there."""
    settings = cfg.evaluate
    if name in OWN_SUBJECTS:
        trained = name == "trained"
        model = run.artifact(backend_of(cfg.train).trained_by, "model") if trained else base_model(cfg.model, run)
        form = PromptFormat(cfg.model.prompt, cfg.model.end_of_turn, cfg.model.eos_token)
        return Subject(model, form, settings.sampling, settings.engine)
    other = settings.models[name]
    model = user_path(other.path).resolve()
    check_hf_directory(model, key=f"evaluate.models.{name}.path")
    form = PromptFormat(other.prompt, other.end_of_turn, other.eos_token)
    return Subject(model, form, sampling_of(cfg, name), engine_of(cfg, name))


def sampling_of(cfg: Config, name: str) -> SamplingConfig:
    """evaluate.sampling with the subject's own limit of new tokens."""
    other = cfg.evaluate.models.get(name)
    own = other.max_new_tokens if other else None
    return replace(cfg.evaluate.sampling, max_new_tokens=own) if own else cfg.evaluate.sampling


def engine_of(cfg: Config, name: str) -> EngineConfig:
    """evaluate.engine with the subject's own context length."""
    client, other = cfg.evaluate.engine.client, cfg.evaluate.models.get(name)
    if other is None or other.max_model_len is None or client is None:
        return cfg.evaluate.engine
    return replace(client, server=replace(client.server, max_model_len=other.max_model_len))
