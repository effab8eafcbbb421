"""The student's tokenizer and base model, as the config names them."""

from __future__ import annotations

from pathlib import Path

from nemo_cot.io.paths import user_path
from nemo_cot.config.model import ModelConfig
from nemo_cot.stages import RunDirectory
from nemo_cot.text import PromptFormat, TextTokenizer


def base_model(model: ModelConfig, run: RunDirectory) -> Path:
    """The base model's Hugging Face directory: converted in this run, or the one that is named."""
    if model.source == "directory":
        run.artifact("convert", "model.json")
        return user_path(model.path or "").resolve()
    return run.artifact("convert", "model")


def student_tokenizer(model: ModelConfig, directory: Path) -> TextTokenizer:
    """The tokenizer in ``directory`` with the prompt format of ``model``."""
    return TextTokenizer(directory, PromptFormat(model.prompt, model.end_of_turn, model.eos_token))


def format_config(model: ModelConfig) -> dict[str, str]:
    """The fields that decide how text becomes tokens, for a stage's fingerprint."""
    return {"prompt": model.prompt, "end_of_turn": model.end_of_turn, "eos_token": model.eos_token}
