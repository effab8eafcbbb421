"""Rules about which model it is: what the config says of it must be true of its own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nemo_cot.config import Config, LocalTrain, ModelTeacher
from nemo_cot.config.engines import EndpointEngine
from nemo_cot.errors import UserError
from nemo_cot.io.paths import user_path
from nemo_cot.models.check import check_model, check_tokens
from nemo_cot.preflight.engine_uses import engine_uses
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.preflight.model_files import read_config, shape_differences
from nemo_cot.text import PromptFormat, named_eos
from nemo_cot.training.nemo.config import NemoTrain

Found = Iterator[tuple[str, str, str]]


def _model_shape(cfg: Config, _: Estimate) -> Found:
    """model.shape, by which memory and hours are planned, is that of the model's config.json."""
    folder, shape = _directory(cfg), cfg.model.shape
    if folder is None or shape is None:
        yield "ok", "does not apply: the shape is read from the model's own files", ""
        return
    config = read_config(folder)
    if config is None:
        yield "unknown", f"there is no config.json in {folder} to compare model.shape with", ""
    elif differing := shape_differences(shape, config):
        yield (
            "error",
            f"{folder} is another model than {cfg.model.name}: {'; '.join(differing)} in its config.json",
            "choose the model of this directory (model=hf_directory reads its shape), or correct model.path",
        )


def _model_eos(cfg: Config, _: Estimate) -> Found:
    """The eos that the model's tokenizer names is model.eos_token."""
    folder = _directory(cfg)
    if folder is None:
        yield "ok", "does not apply: convert sets the tokenizer's eos", ""
        return
    eos, wanted = named_eos(folder), cfg.model.eos_token
    if eos is None:
        yield "unknown", f"no eos_token in {folder}/tokenizer_config.json to compare model.eos_token with", ""
    elif eos != wanted:
        turn = ": the end of turn, as an Instruct model has it" if eos == cfg.model.end_of_turn else ""
        cut = ", where NeMo's loaders cut every sequence" if turn and isinstance(cfg.train, NemoTrain) else ""
        yield (
            "error",
            f"model.eos_token: the tokenizer's eos is {eos!r}, the config says {wanted!r} ({folder}){turn}{cut}",
            f"give the base model in model.path, or a copy of this one with eos_token {wanted} in "
            "tokenizer_config.json",
        )


def _teacher_path(cfg: Config, _: Estimate) -> Found:
    """A teacher that answers through a chat template is named."""
    teacher = cfg.teacher
    if not isinstance(teacher, ModelTeacher) or "generate" not in cfg.launcher.stages:
        yield "ok", "does not apply: no model writes the traces", ""
        return
    engine = teacher.engine
    chat = isinstance(engine, EndpointEngine) and engine.endpoint == "chat" and not engine.server.base_url
    if chat and not teacher.path:
        yield (
            "error",
            f"teacher.path is not given: {cfg.model.name}, the base model, would write the traces",
            "set teacher.path to the teacher's Hugging Face directory (the base model's, if that is meant)",
        )


def _directory(cfg: Config) -> Path | None:
    return user_path(cfg.model.path or "") if cfg.model.source == "directory" else None


def _model_weights(cfg: Config, _: Estimate) -> Found:
    """What is computed in our own processes can be, and the tokenizers have the tokens that the config names."""
    models: dict[tuple[str, str, PromptFormat | None], bool] = {}
    for key, path, local, form in _computed(cfg):
        models[key, path, form] = local or models.get((key, path, form), False)
    for (key, path, form), local in models.items():
        directory = user_path(path)
        try:
            check_model(directory, local=False)
        except (UserError, OSError):
            continue  # the rules inputs_exist and inputs_hold say it
        try:
            check_model(directory, local=local)
            if form is not None:
                check_tokens(directory, form, key=key)
        except UserError as error:
            yield "error", f"{error.where}: {error.what}", error.fix


def _computed(cfg: Config) -> Iterator[tuple[str, str, bool, PromptFormat | None]]:
    """Each model that a stage computes with: the part of the config that it is from, its directory, whether
    our own process computes it, and the format whose tokens are sent to it (None: the server's own).
    """
    model, own = cfg.model, named_eos(_directory(cfg) or Path())
    eos = model.eos_token if own in (None, model.eos_token) else None  # another is the rule model_eos's
    form = PromptFormat(model.prompt, model.end_of_turn, eos)
    if model.source == "directory" and model.path:
        yield "model", model.path, isinstance(cfg.train, LocalTrain) and "train" in cfg.launcher.stages, form
    for use in engine_uses(cfg):
        local, chat = use.engine.kind == "embedded", getattr(use.engine, "endpoint", "text") == "chat"
        if isinstance(cfg.teacher, ModelTeacher) and use.key == "teacher":
            key, asked = "teacher", PromptFormat(cfg.teacher.prompt, cfg.teacher.end_of_turn)
        elif use.model is not None:
            key, asked = "model", form
        else:
            key, other = f"evaluate.models.{use.label}", cfg.evaluate.models[use.label]
            asked = PromptFormat(other.prompt, other.end_of_turn, other.eos_token)
        if use.path is not None:
            yield key, use.path, local, None if chat else asked


MODEL_RULES = (_model_shape, _model_eos, _model_weights)
TEACHER_RULES = (_teacher_path,)
