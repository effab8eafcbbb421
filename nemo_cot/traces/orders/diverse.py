"""diverse: each trace as unlike those already taken as can be, by its words."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_cot.config import CurateConfig
from nemo_cot.traces.candidates import Candidate
from nemo_cot.traces.orders import Walk, farthest_first
from nemo_cot.traces.structure.vectors import distinctive

NEEDS = ("vector",)


def walk(candidates: Sequence[Candidate], config: CurateConfig) -> Walk:
    """Farthest first over hashed words and pairs of words, without what all candidates have in common."""
    if candidates:
        yield from farthest_first(distinctive([candidate.vector for candidate in candidates]))
