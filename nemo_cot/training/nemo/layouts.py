"""The layouts that conf/train/layout has for the models of conf/model, beside the one that is configured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from nemo_cot import ROOT
from nemo_cot.config.model import ModelShape
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

    @property
    def key(self) -> str:
        """The override that chooses it."""
        return f"train/layout={self.name}"


@lru_cache(maxsize=1)
def presets() -> tuple[NamedLayout, ...]:
    """The layouts that are for a model of the same name."""
    found = []
    for path in sorted((ROOT / "conf/train/layout").glob("*.yaml")):
        model = ROOT / "conf/model" / path.name
        if model.is_file() and (shape := from_yaml(model).get("shape")):
            found.append(NamedLayout(path.stem, ModelShape(**shape), LayoutConfig(**from_yaml(path))))
    return tuple(found)


def preset(shape: ModelShape | None) -> NamedLayout | None:
    """The layout for a model of this shape."""
    return next((named for named in presets() if named.shape == shape), None)


def other_preset(train: NemoTrain, shape: ModelShape | None) -> NamedLayout | None:
    """The layout that conf/ has for the model, where another one is configured."""
    own = preset(shape)
    same = own is None or all(getattr(train.layout, size) == getattr(own.layout, size) for size in _SIZES)
    return None if same else own
