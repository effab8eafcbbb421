"""The chain: which recipes there are, and which stages each one needs."""

from __future__ import annotations

from nemo_cot.chain import STAGES
from nemo_cot.config import Config
from nemo_cot.errors import UserError
from nemo_cot.training.nemo.config import NemoTrain
from nemo_cot.training.nemo_aligner.config import AlignerTrain

_NEEDS: dict[str, tuple[str, ...]] = {
    "generate": ("problems", "convert"),
    "grade": ("generate",),
    "curate": ("grade", "convert"),
    "pack": ("curate", "convert"),
    "hf_to_nemo": ("convert",),
    "nemo_to_hf": ("train", "convert"),
}


def applies(stage: str, cfg: Config) -> bool:
    """Whether ``stage`` has anything to do: the local trainer, for one, converts no weights."""
    if stage == "hf_to_nemo":
        return isinstance(cfg.train, AlignerTrain) and cfg.train.nemo_model is None
    return stage != "nemo_to_hf" or isinstance(cfg.train, NemoTrain)


def chain_stages(cfg: Config) -> list[str]:
    """The stages of launcher.stages that apply, in the chain's order. Raises UserError for an unknown one."""
    unknown = [stage for stage in cfg.launcher.stages if stage not in STAGES]
    if unknown:
        raise UserError(
            f"there is no stage {unknown[0]!r}",
            where="launcher.stages",
            fix=f"choose among {', '.join(STAGES)}",
        )
    return [stage for stage in STAGES if stage in cfg.launcher.stages and applies(stage, cfg)]


def needs(stage: str, cfg: Config) -> tuple[str, ...]:
    """The stages whose results ``stage`` reads. The report needs none: it tells what failed."""
    if stage == "train":
        return ("pack", "convert", *(("hf_to_nemo",) if applies("hf_to_nemo", cfg) else ()))
    if stage == "evaluate":
        trained = "nemo_to_hf" if applies("nemo_to_hf", cfg) else "train"
        return ("problems", "convert", *((trained,) if "trained" in cfg.evaluate.subjects else ()))
    return _NEEDS.get(stage, ())


def ancestors(stage: str, cfg: Config) -> set[str]:
    """Every stage that ``stage`` needs, directly or through others."""
    found: set[str] = set()
    for need in needs(stage, cfg):
        found |= {need} | ancestors(need, cfg)
    return found
