"""Whether a conversion did what it should: read what it wrote, and compare it with the base model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from nemo_cot.config.model import ModelConfig
from nemo_cot.errors import UserError
from nemo_cot.io.atomic import write_bytes
from nemo_cot.models import facts
from nemo_cot.models.export import finish_export
from nemo_cot.models.tensors import same_bytes, tensor_index
from nemo_cot.training.nemo.rendered import from_yaml

_FIELDS = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "ffn_hidden_size": "intermediate_size",
    "num_attention_heads": "num_attention_heads",
    "num_query_groups": "num_key_value_heads",
    "layernorm_epsilon": "rms_norm_eps",
}
"""NeMo's names of what must equal a field of config.json."""


def check_nemo_folder(nemo: Path, hugging_face: Path) -> None:
    """Raise UserError unless ``nemo`` is an unpacked NeMo model with the shape of ``hugging_face``, in bf16.

    NeMo-Skills' script falls back to fp16 without a word where it sees no GPU, and to a default
    base of the rotary embeddings where config.json does not name one as it expects.
    """
    path = nemo / "model_config.yaml"
    if not path.is_file():
        raise UserError("the conversion did not write it", where=str(path), fix="read its messages above")
    config, own = from_yaml(path), read_config(hugging_face)
    wanted = {name: own[key] for name, key in _FIELDS.items() if key in own}
    theta = own.get("rope_theta", (own.get("rope_parameters") or {}).get("rope_theta"))
    wanted |= {"precision": "bf16"} | ({} if theta is None else {"rotary_base": theta})
    for name, value in wanted.items():
        if not _same(config.get(name), value):
            raise UserError(
                f"{name} is {config.get(name)!r}, not {value!r} as in the base model",
                where=str(path),
                fix="convert on a node with a GPU, in the training container",
            )
    _check_parameters(nemo / "model_weights", hugging_face)


def _same(there: Any, wanted: Any) -> bool:
    """Equal, or equal as numbers: PyYAML reads 1e-06, as some write it, as text."""
    try:
        return float(there) == float(wanted)
    except (TypeError, ValueError):
        return there == wanted


def read_config(hugging_face: Path) -> dict[str, Any]:
    """config.json of a Hugging Face directory. Raises UserError when it is missing or damaged."""
    config = facts.read_config(hugging_face)
    if config is None:
        raise UserError(
            "missing or unreadable", where=str(hugging_face / "config.json"), fix="give a Hugging Face directory"
        )
    return config


def _check_parameters(weights: Path, hugging_face: Path) -> None:
    """Count the elements of the zarr arrays (a file .zarray each): all of the base model's, no more."""
    arrays = [p for p in weights.glob("*/.zarray") if not p.parent.name.endswith("_extra_state")]
    there = sum(math.prod(json.loads(path.read_text())["shape"]) for path in arrays)
    wanted = sum(math.prod(tensor.shape) for tensor in tensor_index(hugging_face).values())
    if there != wanted:
        raise UserError(
            f"{there:,} parameters in {len(arrays)} arrays, the base model has {wanted:,}",
            where=str(weights),
            fix="convert again; read the converter's messages",
        )


def finish_hf_directory(converted: Path, base: Path, model: ModelConfig) -> None:
    """Put the base model's config beside weights that have its names and shapes, and what
    :func:`nemo_cot.models.export.finish_export` adds.

    NeMo-Skills' script writes the pack's capacity into config.json as the longest position, so
    that a server would refuse longer answers. Raises UserError for other tensors than the base
    model's, and for weights that are all the base model's own: nothing was trained then.
    """
    here, there = tensor_index(converted), tensor_index(base)
    for name in sorted(here.keys() | there.keys()):
        shapes = [index[name].shape if name in index else None for index in (here, there)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{name} has shape {shapes[0]}, in the base model {shapes[1]}",
                where=str(converted),
                fix="convert again; read the converter's messages",
            )
    if all(same_bytes(tensor, there[name]) for name, tensor in here.items()):
        raise UserError(
            "every weight is the base model's: training changed nothing, or the wrong weights were converted",
            where=str(converted),
            fix="look at the training log, and at train.optim.lr",
        )
    config = read_config(base)
    if {tensor.dtype for tensor in here.values()} == {"BF16"}:
        config |= {key: "bfloat16" for key in ("torch_dtype", "dtype") if key in config}
    write_bytes(converted / "config.json", json.dumps(config, indent=2).encode() + b"\n")
    finish_export(converted, base, model)
