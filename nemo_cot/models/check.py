"""Whether a Hugging Face directory is whole, before anything is computed with it: no torch, headers alone.

transformers draws at random what a file of weights lacks, and leaves out what it has no place for, with
a warning. Here both are errors, by what config.json implies for the families that are computed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.models.tensors import INDEX, Tensor, read_json, same_bytes, tensor_index, weight_map
from nemo_cot.text import PromptFormat, TextTokenizer

FAMILIES = {"llama": None, "qwen2": 32, "qwen3": 32, "mistral": 8}
"""The model types that local training and the embedded engine compute, with the number of key-value heads
that transformers takes where config.json does not name it (None: that of the heads)."""
_FLOATS = ("F64", "F32", "F16", "BF16")
_NOT_READ = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""What old checkpoints hold and nobody loads: it is computed."""
_COMPARED_BYTES = 1 << 22
_NAMED = 3
_FIX = "copy or convert the model again"

_Size = Annotated[int, msgspec.Meta(ge=1, le=2**31)]
_Layers = Annotated[int, msgspec.Meta(ge=1, le=2**16)]


class _Config(msgspec.Struct):
    """What is asked of every config.json."""

    model_type: str | None = None
    auto_map: dict[str, Any] | None = None
    quantization_config: dict[str, Any] | None = None


class Architecture(msgspec.Struct):
    """What of a config.json decides the names and shapes of the weights, for the FAMILIES."""

    model_type: str
    hidden_size: _Size
    intermediate_size: _Size
    num_hidden_layers: _Layers
    num_attention_heads: _Size
    vocab_size: _Size
    num_key_value_heads: _Size | msgspec.UnsetType | None = msgspec.UNSET
    head_dim: _Size | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False


def check_model(directory: Path, *, local: bool, key: str | None = None) -> None:
    """Raise UserError, with the names, unless ``directory`` holds a config, a tokenizer and all the weights.

    The weights of one of the FAMILIES are compared with what its config.json implies, if they are not
    quantised. ``local``: it must also be one that is computed here, by training or the embedded engine.
    ``key``: the config key that names the directory, for the message. Headers alone are read.
    """
    where, fix = (
        f"{key}={directory}" if key else str(directory),
        "give a local Hugging Face directory with config.json, tokenizer.json and *.safetensors",
    )
    if not directory.is_dir():
        raise UserError("no such directory", where=where, fix=fix)
    for name in ("config.json", "tokenizer.json"):
        if not (directory / name).is_file():
            raise UserError(f"{name} is missing", where=where, fix=fix)
    if trouble := _trouble_with_files(directory):
        raise UserError(trouble, where=where, fix=fix)
    config_json = directory / "config.json"
    config = read_json(config_json, _Config, fix=_FIX)
    if local and (reason := _not_computed(config)):
        raise UserError(
            f"local training and the embedded engine do not compute {reason}",
            where=where,
            fix=f"use one of {', '.join(FAMILIES)}, or a NeMo backend and an engine over a server",
        )
    tensors = tensor_index(directory)
    if lost := sorted((weight_map(directory) or {}).keys() - tensors.keys()):
        raise UserError(f"{INDEX} names what no file holds: {_few(lost)}", where=where, fix=_FIX)
    if config.model_type not in FAMILIES or config.quantization_config is not None:
        return
    if misfits := _misfits(tensors, read_json(config_json, Architecture, fix=_FIX)):
        raise UserError(
            f"its weights are not those of its config.json: {'; '.join(misfits)}", where=where, fix=_FIX
        )


def check_tokens(directory: Path, form: PromptFormat, *, key: str) -> None:
    """Raise UserError unless the tokenizer has the tokens of ``form``, and the model a row for each.

    ``key``: the part of the config that they are from (model, teacher, evaluate.models.NAME).
    """
    try:
        tokenizer = TextTokenizer(directory, form)
    except UserError as error:
        where, fix = (re.sub(r"\bmodel\.(?=e)", f"{key}.", text) for text in (error.where, error.fix))
        raise UserError(error.what, where=where, fix=fix) from None
    rows = read_json(directory / "config.json").get("vocab_size")
    for name, number in (("end_of_turn", tokenizer.end_of_turn_id), ("eos_token", tokenizer.eos_id)):
        if isinstance(rows, int) and number is not None and number >= rows:
            raise UserError(
                f"the token has the number {number}, the model {rows} rows (vocab_size)",
                where=f"{key}.{name}, {directory}",
                fix="name a token that the model was made with, or give a model with resized embeddings",
            )


def expected_tensors(model: Architecture) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of a model of the FAMILIES; lm_head also where it is tied."""
    hidden, heads = model.hidden_size, model.num_attention_heads
    named = model.num_key_value_heads
    kv_heads = (FAMILIES[model.model_type] if named is msgspec.UNSET else named) or heads
    narrow = 128 if model.model_type == "qwen3" else hidden // heads
    width, inner = model.head_dim or narrow, model.intermediate_size
    queries, keys = heads * width, kv_heads * width
    products = {
        "self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden), "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner),
    }  # fmt: skip
    layer = {"input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,)}
    layer |= {f"{name}.weight": shape for name, shape in products.items()}
    if model.model_type == "qwen3":
        layer |= {f"self_attn.{name}.weight": (width,) for name in ("q_norm", "k_norm")}
    layer |= {f"{name}.bias": products[name][:1] for name in products if _has_bias(model, name)}
    layers = range(model.num_hidden_layers)
    return {
        "model.embed_tokens.weight": (model.vocab_size, hidden),
        **{f"model.layers.{number}.{name}": shape for number in layers for name, shape in layer.items()},
        "model.norm.weight": (hidden,),
        "lm_head.weight": (model.vocab_size, hidden),
    }


def _has_bias(model: Architecture, product: str) -> bool:
    """As transformers builds it: of Qwen2 query, key and value always, of Llama and the attention of Qwen3 what its
    config says, else none.
    """
    if model.model_type == "qwen2":
        return product.endswith(("q_proj", "k_proj", "v_proj"))
    if product.startswith("mlp."):
        return model.model_type == "llama" and model.mlp_bias
    return model.model_type in ("llama", "qwen3") and model.attention_bias


def _trouble_with_files(directory: Path) -> str | None:
    """Why it is not clear which files are the weights; None where it is. transformers reads model.safetensors
    before an index, vLLM after it.
    """
    files = sorted(path.name for path in directory.glob("*.safetensors"))
    single, index = (directory / "model.safetensors").is_file(), (directory / INDEX).is_file()
    if not files:
        pickled = sorted(path.name for path in directory.glob("*.bin"))
        return "no *.safetensors weights" + (
            f" ({_few(pickled)}, Python's pickles, which are not read: save it with safe_serialization=True)"
            if pickled
            else ""
        )
    if single and index:
        return f"there is both a model.safetensors and a {INDEX}, of which one is left over"
    if not single and not index:
        return f"{_few(files)} without a {INDEX}"
    return None


def _not_computed(config: _Config) -> str | None:
    """What of a model is not computed here; None for nothing."""
    if config.auto_map:
        return f"a model that brings its own code (auto_map in config.json: {_few(sorted(config.auto_map))})"
    if config.quantization_config is not None:
        return "quantised weights (quantization_config in config.json)"
    if config.model_type not in FAMILIES:
        return f"the model type {config.model_type!r}"
    return None


def _misfits(tensors: Mapping[str, Tensor], model: Architecture) -> list[str]:
    """A line for what is missing, what is too much, and each of the first that have another shape or type."""
    expected = expected_tensors(model)
    spare = {"lm_head.weight"} if model.tie_word_embeddings else set()
    missing = [name for name in expected if name not in tensors and name not in spare]
    unexpected = [name for name in tensors if name not in expected and not _NOT_READ.fullmatch(name)]
    odd = [
        f"{name} has shape {list(tensors[name].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    whole = [name for name, tensor in tensors.items() if name in expected and tensor.dtype not in _FLOATS]
    lines = [f"missing {_few(missing)}"] if missing else []
    lines += [f"unexpected {_few(unexpected)}"] if unexpected else []
    lines += [_few(odd)] if odd else []
    lines += [f"of type {tensors[whole[0]].dtype}: {_few(whole)}"] if whole else []
    if not lines and spare & tensors.keys() and not _same_start(tensors):
        lines = ["lm_head.weight differs from the embeddings, and tie_word_embeddings says that they are one"]
    return lines


def _same_start(tensors: Mapping[str, Tensor]) -> bool:
    head, embeddings = (
        tensor._replace(end=min(tensor.end, tensor.start + _COMPARED_BYTES))
        for tensor in (tensors["lm_head.weight"], tensors["model.embed_tokens.weight"])
    )
    return same_bytes(head, embeddings)


def _few(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
