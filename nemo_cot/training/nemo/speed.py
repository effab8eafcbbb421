"""Time of Megatron training, in seconds: what `plan` estimates hours by, and layouts are compared by. No GPU measured it."""

from __future__ import annotations

from nemo_cot.config.gpus import Gpu
from nemo_cot.config.model import ModelShape
from nemo_cot.training.nemo.config import LayoutConfig, LoraConfig
from nemo_cot.training.nemo.memory import adapter_parameters

MATRIX_SHARE = 0.5
"""Of a GPU's peak while it computes; with the communication of TP 8 it becomes the 0.4 that Megatron-LM's own tables show
for models of this size on H100; assumed."""
SHARES = (0.6, 0.4)
"""The same at best and at worst."""
NETWORK_BYTES_PER_SECOND = 50e9
"""Between nodes, per GPU: a port of 400 Gb/s each; assumed."""
START_SECONDS = 300.0
"""Until the first step: containers, process groups, loading the model; assumed."""


def operations_per_token(shape: ModelShape, layout: LayoutConfig, lora: LoraConfig) -> float:
    """2 x parameters forward, as many for the gradients of the activations, and of the weights (Kaplan et al., arXiv
    2001.08361). Adapters leave the last to themselves; full checkpointing computes the forward pass twice.
    """
    forward, own = 2.0 * shape.parameters, shape.layers * adapter_parameters(shape, lora)
    trained = 2 * forward + 6.0 * own if lora.enabled else 3 * forward
    return trained + (forward if layout.checkpoint_activations == "full" else 0.0)


def step_seconds(
    shape: ModelShape, layout: LayoutConfig, lora: LoraConfig, *, tokens: float, pack_tokens: int, gpu: Gpu
) -> float:
    """Of an optimizer step of ``tokens`` in packs of ``pack_tokens``, one per micro batch.

    The operations at MATRIX_SHARE of the peak of all GPUs; per layer and pack four all-reduces of tensor
    parallelism, two more where the forward pass is computed again (Megatron-LM, arXiv 1909.08053), ring: 2 (t - 1) / t
    of the hidden states in bf16; a pipeline's bubble, (stages - 1) / micro batches of the time (arXiv 2104.04473); and
    once per step the gradients (fp32) and the weights (bf16) among the copies. Raises UserError as
    ``data_parallel_size`` does.
    """
    copies, tensor, stages = layout.data_parallel_size, layout.tensor_model_parallel_size, layout.pipeline_model_parallel_size
    compute = operations_per_token(shape, layout, lora) * tokens / (layout.world_size * MATRIX_SHARE * gpu.bf16_flops)
    micro_batches = max(1.0, tokens / pack_tokens / copies)
    reduces = 6 if layout.checkpoint_activations == "full" else 4
    hidden = 2 * shape.hidden * pack_tokens / layout.context_parallel_size
    sent = hidden * 2 * (tensor - 1) / tensor * reduces * shape.layers / stages
    link = gpu.link_bytes_per_second if tensor <= layout.gpus_per_node else NETWORK_BYTES_PER_SECOND
    bubble = 1 + (stages - 1) / micro_batches
    trained = shape.layers * adapter_parameters(shape, lora) if lora.enabled else shape.parameters
    shared = (4 + 2) * trained / (tensor * stages) if copies > 1 else 0.0
    return (compute + micro_batches * sent / link) * bubble + shared / NETWORK_BYTES_PER_SECOND
