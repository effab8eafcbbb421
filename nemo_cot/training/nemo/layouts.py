"""The layouts that conf/train/layout has for the models of conf/model, beside the one that is configured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from nemo_cot import ROOT
from nemo_cot.config.model import ModelShape
from nemo_cot.config.rule import Found
from nemo_cot.training.nemo.config import LayoutConfig, NemoTrain
from nemo_cot.training.nemo.rendered import from_yaml

_SIZES = ("num_nodes", "gpus_per_node", "tensor_model_parallel_size", "pipeline_model_parallel_size",
          "context_parallel_size")  # fmt: skip


@dataclass(frozen=True)
class NamedLayout:
    """conf/train/layout/``name``.yaml, and the shape of the model that it is for (conf/model/``name``.yaml)."""

    name: str
    shape: ModelShape
    layout: LayoutConfig


@lru_cache(maxsize=1)
def presets() -> tuple[NamedLayout, ...]:
    """The layouts that are for a model of the same name."""
    found = []
    for path in sorted((ROOT / "conf/train/layout").glob("*.yaml")):
        model = ROOT / "conf/model" / path.name
        if model.is_file() and (shape := from_yaml(model).get("shape")):
            found.append(NamedLayout(path.stem, ModelShape(**shape), LayoutConfig(**from_yaml(path))))
    return tuple(found)


def preset_of(shape: ModelShape | None) -> NamedLayout | None:
    """The layout for a model of this shape."""
    return next((named for named in presets() if named.shape == shape), None)


def other_preset(train: NemoTrain, shape: ModelShape | None) -> str | None:
    """``train/layout=NAME``, where conf/ has a layout for the model and another one is configured."""
    preset = preset_of(shape)
    if preset is None or all(getattr(train.layout, size) == getattr(preset.layout, size) for size in _SIZES):
        return None
    return f"train/layout={preset.name}"


def smaller_layout(train: NemoTrain, shape: ModelShape | None) -> Found:
    """A warning where the model's own layout takes fewer nodes than the configured one."""
    preset, wanted = preset_of(shape), other_preset(train, shape)
    if wanted and preset:
        own, here = preset.layout, train.layout
        if own.world_size < here.world_size and own.gpus_per_node == here.gpus_per_node:
            yield (
                "warning",
                f"{here.num_nodes} nodes for a model that fits {own.num_nodes}",
                f"set {wanted}, unless the nodes are meant to make it faster",
            )


def with_preset(fix: str, wanted: str | None) -> str:
    """``fix``, with the model's own layout named first where it speaks of the layout."""
    return f"set {wanted}, or {fix}" if wanted and "train.layout." in fix else fix
