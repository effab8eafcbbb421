"""Megatron-core's GPTModel on a CPU: it asks CUDA for a device, for random states and to wait for copies."""

from __future__ import annotations

import contextlib


def shim_cuda(monkeypatch) -> None:
    """The three calls that a CPU has no answer to."""
    import torch
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    monkeypatch.setattr(torch.cuda, "current_device", lambda: "cpu")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(CudaRNGStatesTracker, "fork", lambda self, name=None: contextlib.nullcontext())


def gpt(*, layers, width, inner, heads, kv_heads, vocabulary, theta, length=256):
    """A model of Qwen2's kind: RMSNorm, gated MLP, grouped queries with biases, untied embeddings."""
    import torch.nn.functional as F
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.torch_norm import WrappedTorchNorm
    from megatron.core.transformer.transformer_config import TransformerConfig

    config = TransformerConfig(
        num_layers=layers, hidden_size=width, num_attention_heads=heads, num_query_groups=kv_heads,
        ffn_hidden_size=inner, use_cpu_initialization=True, normalization="RMSNorm", gated_linear_unit=True,
        activation_func=F.silu, add_bias_linear=False, add_qkv_bias=True, layernorm_epsilon=1e-6,
        hidden_dropout=0.0, attention_dropout=0.0, masked_softmax_fusion=False,
    )  # fmt: skip
    spec = get_gpt_layer_local_spec()
    spec.submodules.input_layernorm = spec.submodules.pre_mlp_layernorm = WrappedTorchNorm
    return GPTModel(
        config, spec, vocab_size=vocabulary, max_sequence_length=length, position_embedding_type="rope",
        rotary_base=int(theta), share_embeddings_and_output_weights=False,
    ).eval()  # fmt: skip


def tiny_gpt(monkeypatch, *, vocabulary):
    """Two layers of random weights, large enough that attention decides the loss."""
    import torch

    shim_cuda(monkeypatch)
    torch.manual_seed(0)
    model = gpt(layers=2, width=64, inner=96, heads=4, kv_heads=2, vocabulary=vocabulary, theta=1e4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)
    return model
