"""The schema of transform. Values: conf/transform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nemo_cot.config.checks import seed
from nemo_cot.errors import UserError
from nemo_cot.traces.transforms import load_transforms


@dataclass
class TransformConfig:
    """``steps``: what is done with each chosen trace, in this order: {name: NAME, dose: SHARE, ...}, with the
    keys of nemo_cot/traces/transforms/NAME.py. Empty: nothing, and the stage does not apply.
    """

    steps: list[Any]
    seed: int

    def __post_init__(self) -> None:
        seed("transform.seed", self.seed)
        load_transforms(self.steps)


def check_kinds(config: TransformConfig, kinds: Sequence[str]) -> None:
    """Raise UserError for a transform that names a kind of marks that conf/marks has not."""
    for number, (_, transform) in enumerate(load_transforms(config.steps)):
        for kind in getattr(transform, "kinds", ()):
            if kind not in kinds:
                raise UserError(
                    f"{kind!r} is no kind of marks.words", where=f"transform.steps[{number}].kinds",
                    fix=f"choose among {', '.join(kinds) or 'none: set marks=english'}",
                )  # fmt: skip
