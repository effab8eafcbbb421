"""Memory per GPU of Megatron training, bytes: what decides the layouts in conf/train/layout.

Weights and optimizer: Megatron-LM's README (bf16 weights, fp32 gradients, Adam): 18 bytes per
parameter, or 6 + 12 / DP with the distributed optimizer. Activations: after Korthikanti et al.,
arXiv 2205.05198, for gated MLPs without dropout and with fused attention.
"""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.config.model import ModelShape
from nemo_cot.config.rule import GIB
from nemo_cot.training.lora import LoraConfig, adapter_parameters
from nemo_cot.training.nemo.config import LayoutConfig

_WEIGHT, _GRADIENT, _OPTIMIZER = 2, 4, 12
"""Bytes per parameter: bf16 weight, fp32 gradient, fp32 master weight and two moments."""
_LOGIT = 2 + 4 + 4
"""Bytes per logit: bf16 from the projection, fp32 in the loss, fp32 gradient."""


@dataclass(frozen=True)
class GpuMemory:
    """Bytes on the fullest GPU. ``reserved`` is kept for CUDA, NCCL, workspaces and fragmentation."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    reserved: float

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.reserved


def gpu_memory(shape: ModelShape, layout: LayoutConfig, lora: LoraConfig, pack_tokens: int) -> GpuMemory:
    """Memory of the fullest pipeline stage with one pack of ``pack_tokens`` a micro batch.

    Raises UserError when the layout's GPUs do not make whole copies of the model.
    """
    stages = range(min(2, layout.pipeline_model_parallel_size))
    both = [_stage_memory(shape, layout, lora, pack_tokens, last=bool(stage)) for stage in stages]
    return max(both, key=lambda memory: memory.total)


def _stage_memory(
    shape: ModelShape, layout: LayoutConfig, lora: LoraConfig, tokens: int, *, last: bool
) -> GpuMemory:
    """The first stage has the embedding and most micro batches in flight, the last has the logits."""
    pipeline = layout.pipeline_model_parallel_size
    alone = pipeline == 1
    layers = -(-shape.layers // pipeline)
    held = layers * shape.layer_parameters + (
        shape.embedding_parameters if alone else shape.vocabulary * shape.hidden
    )
    held /= layout.tensor_model_parallel_size
    trained = (
        layers * adapter_parameters(shape, lora) / layout.tensor_model_parallel_size if lora.enabled else held
    )
    shared = layout.data_parallel_size * layout.context_parallel_size if layout.distributed_optimizer else 1
    in_flight = 1 if last else pipeline
    tokens_here = tokens / layout.context_parallel_size
    return GpuMemory(
        weights=_WEIGHT * (held + (trained if lora.enabled else 0)),
        gradients=_GRADIENT * trained,
        optimizer=_OPTIMIZER * trained / shared,
        activations=_activations(shape, layout, layers, tokens_here, in_flight),
        logits=_LOGIT * tokens_here * shape.vocabulary / layout.tensor_model_parallel_size
        if alone or last
        else 0.0,
        reserved=layout.reserved_memory_gib * GIB,
    )


def _activations(
    shape: ModelShape, layout: LayoutConfig, layers: int, tokens: float, in_flight: int
) -> float:
    """Bytes kept for the backward pass of ``in_flight`` micro batches.

    Each token keeps per layer, in bf16: 4 hidden (both norms' inputs and outputs), which tensor
    parallelism divides with sequence parallelism only; queries and attention's output (2 hidden),
    keys and values, and 3 intermediate (gate, up, their product). ``full`` keeps the layer's input
    only, and one layer's rest while it is computed again. ``selective`` saves nothing here: fused
    attention keeps no score matrix.
    """
    tensor = layout.tensor_model_parallel_size
    outside = tensor if layout.sequence_parallel else 1
    inside = 2 * shape.hidden + 2 * shape.kv_width + 3 * shape.intermediate
    layer = 2 * tokens * (4 * shape.hidden / outside + inside / tensor)
    if layout.checkpoint_activations != "full":
        return in_flight * layers * layer
    return in_flight * layers * 2 * tokens * shape.hidden / outside + layer
