"""From Megatron's weights back to Hugging Face's: what NeMo-Skills' script does, where it is not there."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from nemo_cot.training.nemo_aligner import weights
from nemo_cot.training.nemo_aligner.weights import Heads


def to_hugging_face(tensors: Mapping[str, Tensor], heads: Heads) -> dict[str, Tensor]:
    """Hugging Face's tensors, out of what :func:`nemo_cot.training.nemo_aligner.weights.to_megatron` makes of them."""
    found = {name: tensors[megatron] for name, megatron in weights.ENDS.items() if megatron in tensors}
    layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("decoder.layers."))
    for layer in range(layers):
        ours, theirs = f"model.layers.{layer}.", f"decoder.layers.{layer}."
        found |= {ours + name: tensors[theirs + megatron] for name, megatron in weights._SAME.items()}
        gate, up = tensors[theirs + weights._FC1].chunk(2)
        found |= {f"{ours}mlp.gate_proj.weight": gate, f"{ours}mlp.up_proj.weight": up}
        for kind in ("weight", "bias"):
            if (joined := tensors.get(f"{theirs}{weights._QKV}.{kind}")) is not None:
                for part, tensor in zip("qkv", _split(joined, heads)):
                    found[f"{ours}self_attn.{part}_proj.{kind}"] = tensor
    return found


def _split(joined: Tensor, heads: Heads) -> list[Tensor]:
    grouped = joined.reshape(heads.kv_heads, -1, *joined.shape[1:])
    each = grouped.shape[1] // (heads.heads // heads.kv_heads + 2)
    sizes = [each * (heads.heads // heads.kv_heads), each, each]
    return [part.reshape(-1, *joined.shape[1:]) for part in grouped.split(sizes, dim=1)]
