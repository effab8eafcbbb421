"""The chain: which recipes there are, and which stages each one needs."""

from __future__ import annotations

from nemo_cot.config import Config

STAGES = ("problems", "convert", "generate", "grade", "curate", "pack", "train", "evaluate", "report")
"""In the order of the chain. A recipe's name is also its file, recipes/NAME.py."""

_NEEDS: dict[str, tuple[str, ...]] = {
    "generate": ("problems", "convert"),
    "grade": ("generate",),
    "curate": ("grade", "convert"),
    "pack": ("curate", "convert"),
    "train": ("pack", "convert"),
}


def needs(stage: str, cfg: Config) -> tuple[str, ...]:
    """The stages whose results ``stage`` reads. The report needs none: it tells what failed."""
    if stage == "evaluate":
        return ("problems", "convert", *(("train",) if "trained" in cfg.evaluate.subjects else ()))
    return _NEEDS.get(stage, ())


def ancestors(stage: str, cfg: Config) -> set[str]:
    """Every stage that ``stage`` needs, directly or through others."""
    found: set[str] = set()
    for need in needs(stage, cfg):
        found |= {need} | ancestors(need, cfg)
    return found
