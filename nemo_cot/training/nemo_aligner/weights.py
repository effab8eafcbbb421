"""How the weights of Llama, Qwen2 and Mistral lie in Hugging Face's files and in Megatron's.

Megatron joins what one product computes: query, key and value (for each key-value head its group
of query heads, then its key, then its value), and the two halves of the gated MLP. A distributed
checkpoint stacks the layers. Shown on the real packages in tests/contract/test_weight_layout.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

ENDS = {
    "model.embed_tokens.weight": "embedding.word_embeddings.weight",
    "model.norm.weight": "decoder.final_layernorm.weight",
    "lm_head.weight": "output_layer.weight",
}
"""Tensors outside the layers: Hugging Face's name -> Megatron's."""
_SAME = {
    "self_attn.o_proj.weight": "self_attention.linear_proj.weight",
    "mlp.down_proj.weight": "mlp.linear_fc2.weight",
    "input_layernorm.weight": "self_attention.linear_qkv.layer_norm_weight",
    "post_attention_layernorm.weight": "mlp.linear_fc1.layer_norm_weight",
}
_QKV = "self_attention.linear_qkv"
_FC1 = "mlp.linear_fc1.weight"


class Heads(NamedTuple):
    """Attention heads, and key-value heads, of which each serves heads / kv_heads query heads."""

    heads: int
    kv_heads: int


def to_megatron(tensors: Mapping[str, Tensor], heads: Heads) -> dict[str, Tensor]:
    """Hugging Face's tensors under Megatron's names, the layers apart: decoder.layers.0.mlp.linear_fc1.weight."""
    import torch

    found = {megatron: tensors[name] for name, megatron in ENDS.items() if name in tensors}
    num_layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("model.layers."))
    for layer in range(num_layers):
        ours, theirs = f"model.layers.{layer}.", f"decoder.layers.{layer}."
        found |= {theirs + megatron: tensors[ours + name] for name, megatron in _SAME.items()}
        halves = [tensors[f"{ours}mlp.{half}_proj.weight"] for half in ("gate", "up")]
        found[theirs + _FC1] = torch.cat(halves)
        for kind in ("weight", "bias"):
            parts = [tensors.get(f"{ours}self_attn.{part}_proj.{kind}") for part in "qkv"]
            if parts[0] is not None:
                found[f"{theirs}{_QKV}.{kind}"] = _join(parts, heads)
    return found


def stacked(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The arrays of a distributed checkpoint: layers stacked, shape (layers, ...), names with "model."."""
    import torch

    layers: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("decoder.layers."):
            layers.setdefault(name.split(".", 3)[3], []).append(tensor)
        else:
            yield f"model.{name}", tensor
    for name, parts in layers.items():
        yield f"model.decoder.layers.{name}", torch.stack(parts)


def _join(parts: list[Tensor], heads: Heads) -> Tensor:
    """(rows of q, ...), (rows of k, ...), (rows of v, ...) -> (rows of all, ...), group by group."""
    import torch

    groups = [part.reshape(heads.kv_heads, -1, *part.shape[1:]) for part in parts]
    return torch.cat(groups, dim=1).reshape(-1, *parts[0].shape[1:])
