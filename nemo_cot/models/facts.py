"""What is known of a model before it runs, out of its own files: shape, size, context. No weights are read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.config.model import ModelShape
from nemo_cot.errors import UserError
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.models.tensors import tensor_index

_KEYS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "intermediate": "intermediate_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "vocabulary": "vocab_size",
    "qkv_bias": "attention_bias",
    "tied_embeddings": "tie_word_embeddings",
}
"""Fields of ModelShape, and what config.json calls them. Qwen2 has the bias without naming it."""
_UNSCALED = ("su", "longrope", "llama3")
"""Kinds of rope scaling whose max_position_embeddings is the scaled length already."""


_Types = msgspec.defstruct(
    "_Types",
    [
        *((key, int | None, None) for key in (*list(_KEYS.values())[:6], "max_position_embeddings")),
        *((key, bool | None, None) for key in list(_KEYS.values())[6:]),
        *((key, dict[str, Any] | None, None) for key in ("rope_scaling", "rope_parameters")),
    ],
)
"""The types of what is read of config.json."""


@dataclass(frozen=True)
class ModelFacts:
    """One model: by these figures memory, cost and conversion are judged alike.

    ``folder``: its Hugging Face directory, None where there is none yet. ``config``: its config.json,
    None where it is not here. ``shape``: that of the config.json, or else the planned one.
    ``parameters``: counted in the headers of its weights, or else by the shape.
    """

    folder: Path | None
    config: dict[str, Any] | None
    shape: ModelShape | None
    parameters: int | None


def model_facts(folder: Path | None, planned: ModelShape | None) -> ModelFacts:
    """Read ``folder``; ``planned`` (model.shape) stands in for what is not there."""
    config = read_config(folder) if folder else None
    shape = (shape_of(config) if config else None) or planned
    try:
        count = sum(math.prod(t.shape) for t in tensor_index(folder).values()) if folder and config else None
    except (OSError, UserError):
        count = None
    return ModelFacts(folder, config, shape, count or (shape.parameters if shape else None))


def read_config(folder: Path) -> dict[str, Any] | None:
    """config.json of a Hugging Face directory; None where there is none that can be read, and whose figures are such."""
    try:
        config = json.loads((folder / "config.json").read_text())
        msgspec.convert(config, _Types)
    except (OSError, *DAMAGED):
        return None
    return config


def shape_of(config: dict[str, Any]) -> ModelShape | None:
    """The shape that config.json tells; None for an incomplete one and for a mixture of experts."""
    own = _fields(config)
    own = {"tied_embeddings": False, "qkv_bias": False, **own}
    own.setdefault("kv_heads", own.get("heads"))
    if any("expert" in key for key in config) or own.keys() != _KEYS.keys() or None in own.values():
        return None
    return ModelShape(**own)


def shape_differences(shape: ModelShape, config: dict[str, Any]) -> list[str]:
    """A line for each key of ``shape`` that config.json contradicts; what it does not name is not compared."""
    own = _fields(config)
    return [
        f"model.shape.{name} {getattr(shape, name)}, {_KEYS[name]} {own[name]}"
        for name in _KEYS
        if name in own and own[name] != getattr(shape, name)
    ]


def context_tokens(config: dict[str, Any]) -> int | None:
    """Tokens of prompt and answer that the model has positions for; None where config.json does not say.

    As vLLM derives it (vllm/config, _get_and_verify_max_len): max_position_embeddings, times the
    factor of rope_scaling but for the kinds that have it in already; yarn counts from the original length.
    """
    length = config.get("max_position_embeddings")
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = scaling.get("rope_type") or scaling.get("type")
    if not isinstance(length, int) or kind is None or kind in _UNSCALED:
        return length if isinstance(length, int) else None
    if kind == "yarn":
        length = scaling.get("original_max_position_embeddings") or length
    return int(length * (scaling.get("factor") or 1))


def _fields(config: dict[str, Any]) -> dict[str, Any]:
    found = {name: config[key] for name, key in _KEYS.items() if config.get(key) is not None}
    return {**found, "qkv_bias": True} if config.get("model_type") == "qwen2" else found
