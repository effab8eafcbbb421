"""Rules about which model it is: what the config says of it must be true of its own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nemo_cot.config import Config, ModelTeacher
from nemo_cot.config.engines import EndpointEngine
from nemo_cot.io.paths import user_path
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.preflight.model_files import read_config, shape_differences
from nemo_cot.text import named_eos
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


MODEL_RULES = (_model_shape, _model_eos)
TEACHER_RULES = (_teacher_path,)
