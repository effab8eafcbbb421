"""The evaluated models: base, trained, or others in the config."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from nemo_cot.config import OWN_SUBJECTS, Config, SamplingConfig
from nemo_cot.config.engines import EngineConfig
from nemo_cot.errors import UserError
from nemo_cot.models.check import check_model
from nemo_cot.models.convert import hf_directory
from nemo_cot.models.format import base_model
from nemo_cot.stages import Output, RunDirectory, Source
from nemo_cot.text import PromptFormat
from nemo_cot.training.backend import backend_of


@dataclass(frozen=True)
class Subject:
    """Its Hugging Face directory, prompt, sampling and engine."""

    model: Source
    form: PromptFormat
    sampling: SamplingConfig
    engine: EngineConfig

    def look(self, run: RunDirectory) -> None:
        """Raise UserError for a model made in ``run`` that is damaged; one that is not there yet is said later."""
        if not isinstance(made := self.model, Output) or made.at is not None:
            return
        folder = run.stage(made.stage) / made.file
        if folder.exists():
            try:
                check_model(folder, local=self.engine.client is None)
            except UserError as error:
                again = f"run recipes/{made.stage}.py with the same overrides: it makes the model again"
                raise UserError(error.what, where=error.where, fix=again) from None


def subject_of(cfg: Config, name: str) -> Subject:
    """The subject that evaluate.subjects calls ``name``."""
    settings = cfg.evaluate
    if name in OWN_SUBJECTS:
        model = base_model(cfg.model) if name == "base" else backend_of(cfg.train).trained_model(cfg)
        form = PromptFormat(cfg.model.prompt, cfg.model.end_of_turn, cfg.model.eos_token)
        return Subject(model, form, settings.sampling, settings.engine)
    other = settings.models[name]
    model = partial(hf_directory, other.path, key=f"evaluate.models.{name}.path")
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
