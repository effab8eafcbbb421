"""The layout that conf/ has for a model, beside the one that is configured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nemo_cot.config import Config
from nemo_cot.config.model import ModelShape
from nemo_cot.training.nemo.config import LayoutConfig, NemoTrain

_SIZES = ("num_nodes", "gpus_per_node", "tensor_model_parallel_size", "pipeline_model_parallel_size",
          "context_parallel_size")  # fmt: skip


@dataclass(frozen=True)
class NamedLayout:
    """conf/train/layout/``name``.yaml, and the shape of the model that it is for (conf/model/``name``.yaml)."""

    name: str
    shape: ModelShape
    layout: LayoutConfig


def other_preset(cfg: Config, preset: NamedLayout | None) -> str | None:
    """``train/layout=NAME``, where conf/ has a layout for the model and another one is configured."""
    if preset is None or not isinstance(cfg.train, NemoTrain):
        return None
    same = all(getattr(cfg.train.layout, size) == getattr(preset.layout, size) for size in _SIZES)
    return None if same else f"train/layout={preset.name}"


def smaller_layout(cfg: Config, preset: NamedLayout | None) -> Iterator[tuple[str, str, str]]:
    """A warning where the model's own layout takes fewer nodes than the configured one."""
    wanted = other_preset(cfg, preset)
    if wanted and preset and isinstance(cfg.train, NemoTrain):
        own, here = preset.layout, cfg.train.layout
        if own.world_size < here.world_size and own.gpus_per_node == here.gpus_per_node:
            yield (
                "warning",
                f"{here.num_nodes} nodes for a model that fits {own.num_nodes}",
                f"set {wanted}, unless the nodes are meant to make it faster",
            )


def with_preset(fix: str, wanted: str | None) -> str:
    """``fix``, with the model's own layout named first where it speaks of the layout."""
    return f"set {wanted}, or {fix}" if wanted and "train.layout." in fix else fix
