"""The evaluated models: base (plain, or prompted with examples), trained, or others in the config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nemo_cot.config import AT_STEP, CHECKPOINTS, Config, SamplingConfig
from nemo_cot.config.engines import EngineConfig
from nemo_cot.config.examples import ExamplesConfig
from nemo_cot.errors import UserError
from nemo_cot.evaluation.examples import Asked
from nemo_cot.models.check import check_model
from nemo_cot.models.convert import hf_directory
from nemo_cot.models.format import base_model
from nemo_cot.stages import Output, RunDirectory, Source
from nemo_cot.text import PromptFormat
from nemo_cot.training.backend import backend_of


@dataclass(frozen=True)
class Subject:
    """Its Hugging Face directory, prompt, sampling and engine. ``files``: the model's own by name, for stages that do
    not read its weights. ``examples``: what stands before each problem, ``form`` without them.
    """

    model: Source
    form: PromptFormat
    sampling: SamplingConfig
    engine: EngineConfig
    files: Callable[[str], Source]
    examples: ExamplesConfig | None

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


def subject_names(cfg: Config) -> list[str]:
    """evaluate.subjects, with the kept models (trained@STEP) in the place of checkpoints. Raises UserError where there
    are none, and for one that is not kept.
    """
    backend = backend_of(cfg.train)
    steps = backend.checkpoint_steps()
    kept, names = [f"{AT_STEP}{step}" for step in steps], cfg.evaluate.subjects
    if missing := [n for n in names if (n == CHECKPOINTS and not kept) or (n.startswith(AT_STEP) and n not in kept)]:
        has = f"training keeps {', '.join(kept)}" if kept else "training keeps no models but the last"
        raise UserError(
            f"{missing[0]}: {has}", where="evaluate.subjects",
            fix=backend.more_checkpoints or "choose a backend that keeps them: train=local",
        )  # fmt: skip
    found = [one for name in names for one in (kept if name == CHECKPOINTS else [name])]
    return list(dict.fromkeys(found))


def steps_of(cfg: Config) -> dict[str, int]:
    """Steps of training of each subject that is the run's own; empty without one of before the last."""
    names = subject_names(cfg)
    own = {"base": 0, "trained": cfg.train.max_steps}
    own |= {name: int(name.removeprefix(AT_STEP)) for name in names if name.startswith(AT_STEP)}
    return {name: own[name] for name in names if name in own} if len(own) > 2 else {}


def subject_of(cfg: Config, name: str) -> Subject:
    """The subject that evaluate.subjects calls ``name``."""
    settings, other = cfg.evaluate, cfg.evaluate.models.get(name)
    asks, examples = other or cfg.model, settings.examples_of(name)
    form = PromptFormat(asks.prompt, asks.end_of_turn, asks.eos_token)
    if other is not None:
        key = f"evaluate.models.{name}.path"
        model: Source = partial(hf_directory, other.path, key=key)
        files = partial(partial, _file_of, other.path, key)
    else:
        trained, step = backend_of(cfg.train), name.removeprefix(AT_STEP)
        if name != step:
            model = trained.checkpoint_model(cfg, int(step))
        else:
            model = trained.trained_model(cfg) if name == "trained" else base_model(cfg.model)
        files = model.__truediv__
    return Subject(
        model, examples.asked(form) if examples else form, sampling_of(cfg, name), engine_of(cfg, name), files, examples
    )


def asked_of(cfg: Config, name: str) -> Asked:
    """How the subject ``name``, which has examples, is asked."""
    subject = subject_of(cfg, name)
    client = subject.engine.client
    limit = client.server.max_model_len if client else None
    return Asked(subject.form, subject.sampling.max_new_tokens, limit, cfg.evaluate.examples_key(name))


def _file_of(path: str, key: str, name: str) -> Path:
    return hf_directory(path, key=key) / name


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
