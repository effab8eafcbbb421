"""Rules about which model it is: what the config says of it must be true of its own files."""

from __future__ import annotations

from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.rule import Found, rule
from nemo_cot.io.paths import user_path
from nemo_cot.models.facts import shape_differences
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.text import named_eos
from nemo_cot.training.backend import backend_of


@rule("convert", "hf_to_nemo", always=True)
def model_shape(cfg: Config, estimate: Estimate) -> Found:
    """model.shape, by which memory and hours are planned, is that of the model's config.json."""
    folder, shape, config = _directory(cfg), cfg.model.shape, estimate.model.config
    if folder is None or shape is None:
        return
    if config is None:
        yield "unknown", f"there is no config.json in {folder} to compare model.shape with", ""
    elif differing := shape_differences(shape, config):
        yield (
            "error",
            f"{folder} is another model than {cfg.model.name}: {'; '.join(differing)} in its config.json",
            "choose the model of this directory (model=hf_directory reads its shape), or correct model.path",
        )


@rule("convert", "hf_to_nemo", always=True)
def model_eos(cfg: Config, _: Estimate) -> Found:
    """The eos that the model's tokenizer names is model.eos_token."""
    folder = _directory(cfg)
    if folder is None:
        return  # convert sets it
    eos, wanted = named_eos(folder), cfg.model.eos_token
    if eos is None:
        yield "unknown", f"no eos_token in {folder}/tokenizer_config.json to compare model.eos_token with", ""
    elif eos != wanted:
        turn = ": the end of turn, as an Instruct model has it" if eos == cfg.model.end_of_turn else ""
        cut = ", where NeMo's loaders cut every sequence" if turn and backend_of(cfg.train).cuts_at_eos else ""
        yield (
            "error",
            f"model.eos_token: the tokenizer's eos is {eos!r}, the config says {wanted!r} ({folder}){turn}{cut}",
            f"give the base model in model.path, or a copy of this one with eos_token {wanted} in "
            "tokenizer_config.json",
        )


@rule("generate")
def teacher_path(cfg: Config, _: Estimate) -> Found:
    """A teacher that answers through a chat template is named."""
    client = cfg.teacher.by_model and cfg.teacher.by_model.engine.client
    chat = client and client.endpoint == "chat" and not client.server.base_url
    if chat and not cfg.teacher.named_path:
        yield (
            "error",
            f"teacher.path is not given: {cfg.model.name}, the base model, would write the traces",
            "set teacher.path to the teacher's Hugging Face directory (the base model's, if that is meant)",
        )


def _directory(cfg: Config) -> Path | None:
    return user_path(cfg.model.path or "") if cfg.model.source == "directory" else None


MODEL_RULES = (model_shape, model_eos, teacher_path)
