"""Rules about which model it is: what the config says of it must be true of its own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.rule import Found, rule
from nemo_cot.errors import UserError
from nemo_cot.io.paths import user_path
from nemo_cot.models.check import check_model, check_tokens
from nemo_cot.models.facts import shape_differences
from nemo_cot.preflight.engine_uses import engine_uses
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.text import PromptFormat, named_token
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
    eos, wanted = named_token(folder, "eos_token"), cfg.model.eos_token
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


@rule("convert", "hf_to_nemo", always=True)
def model_weights(cfg: Config, _: Estimate) -> Found:
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
    model, own = cfg.model, named_token(_directory(cfg) or Path(), "eos_token")
    eos = model.eos_token if own in (None, model.eos_token) else None  # another is the rule model_eos's
    form = PromptFormat(model.prompt, model.end_of_turn, eos)
    if model.source == "directory" and model.path:
        trains = "torch" in backend_of(cfg.train).packages and "train" in cfg.launcher.stages
        yield "model", model.path, trains, form
    for use in engine_uses(cfg):
        client = use.engine.client
        own_base = use.key == "evaluate" and use.model is not None
        key = "model" if own_base else f"evaluate.models.{use.label}" if use.key == "evaluate" else use.key
        sent = client is None or client.endpoint == "text" or client.dialect == "vllm"
        if use.path is not None:
            yield key, use.path, client is None, (form if own_base else use.form) if sent else None


MODEL_RULES = (model_shape, model_eos, model_weights, teacher_path)
