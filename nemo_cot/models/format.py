"""The student's tokenizer and base model, as the config names them."""

from __future__ import annotations

from pathlib import Path

from nemo_cot.config.model import ModelConfig
from nemo_cot.io.paths import real_path, user_path
from nemo_cot.stages import Output
from nemo_cot.text import PromptFormat, TextTokenizer


def base_model(model: ModelConfig) -> Output:
    """The base model's Hugging Face directory: made by the stage convert, or checked by it and used in place."""
    in_place = real_path(user_path(model.path or "")) if model.source == "directory" else None
    return Output("convert", "model", in_place)


def student_tokenizer(model: ModelConfig, directory: Path) -> TextTokenizer:
    """The tokenizer in ``directory`` with the prompt format of ``model``."""
    return TextTokenizer(directory, PromptFormat(model.prompt, model.end_of_turn, model.eos_token))


def format_config(model: ModelConfig | PromptFormat) -> dict[str, str | None]:
    """The fields that decide how text becomes tokens, for a stage's fingerprint."""
    return {"prompt": model.prompt, "end_of_turn": model.end_of_turn, "eos_token": model.eos_token}
