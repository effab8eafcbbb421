"""Layouts of Megatron training that fit the GPUs, for `plan --suggest`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from nemo_cot.config import Config
from nemo_cot.config.model import ModelShape
from nemo_cot.config.rule import GIB
from nemo_cot.training.nemo.config import LayoutConfig

_SIZES = (1, 2, 4, 8, 16)
_KEYS = ("num_nodes", "tensor_model_parallel_size", "pipeline_model_parallel_size", "checkpoint_activations",
         "sequence_parallel")  # fmt: skip


def candidates(cfg: Config, layout: LayoutConfig, shape: ModelShape) -> Iterator[LayoutConfig]:
    """Layouts on up to twice the nodes that are configured (at least 4), TP within a node and dividing the key-value
    heads, PP dividing the layers, at least one pack of a step for each copy; with and without recomputation.
    """
    nodes = [n for n in _SIZES if n <= max(4, 2 * layout.num_nodes)]
    for num_nodes, tensor, stages, again in product(nodes, _SIZES, _SIZES, ("full", "none")):
        gpus = num_nodes * layout.gpus_per_node
        if tensor > layout.gpus_per_node or shape.kv_heads % tensor or shape.layers % stages:
            continue
        if gpus % (tensor * stages * layout.context_parallel_size):
            continue
        yield replace(
            layout, num_nodes=num_nodes, tensor_model_parallel_size=tensor, pipeline_model_parallel_size=stages,
            checkpoint_activations=again, sequence_parallel=tensor > 1,
        )  # fmt: skip


def overrides(layout: LayoutConfig, before: LayoutConfig) -> tuple[str, ...]:
    """What makes ``before`` this layout."""
    changed = [key for key in _KEYS if getattr(layout, key) != getattr(before, key)]
    return tuple(f"train.layout.{key}={str(getattr(layout, key)).lower()}" for key in changed)


def fits(layout: LayoutConfig, memory_bytes: float | None) -> bool:
    """Whether the fullest GPU has so much."""
    return memory_bytes is not None and memory_bytes <= layout.gpu_memory_gib * GIB
