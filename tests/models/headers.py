"""Model directories whose weights are holes: the headers are real, the bytes behind them take no space."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from nemo_cot.models.check import Architecture, expected_tensors
from nemo_cot.models.tensors import INDEX

Shapes = Mapping[str, tuple[int, ...]]

LLAMA = {
    "model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 20, "tie_word_embeddings": False,
}  # fmt: skip


def shapes_of(config: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Of every weight that ``config`` implies."""
    return expected_tensors(msgspec.convert(config, Architecture))


def write_weights(path: Path, shapes: Shapes, *, dtype: str = "BF16", width: int = 2) -> Path:
    """A file of ``shapes`` in elements of ``width`` bytes."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + width * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with open(path, "rb+") as handle:
        handle.truncate(8 + len(header) + end)
    return path


def write_holes(
    folder: Path,
    config: Mapping[str, object],
    shapes: Shapes | None = None,
    *,
    files: int = 1,
    tokenizer: str | None = "{}",
) -> Path:
    """A directory with ``config``, ``tokenizer`` (None: there is one) and ``shapes`` (None: those it implies)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(tokenizer)
    names = list((shapes := shapes_of(config) if shapes is None else shapes).items())
    if files == 1:
        write_weights(folder / "model.safetensors", shapes)
        return folder
    places = {}
    for number in range(files):
        part = dict(names[number::files])
        path = write_weights(folder / f"model-{number + 1:05}-of-{files:05}.safetensors", part)
        places |= dict.fromkeys(part, path.name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder
