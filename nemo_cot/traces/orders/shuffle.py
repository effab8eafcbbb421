"""shuffle: at random, by curate.seed."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_cot.config import CurateConfig
from nemo_cot.traces.candidates import Candidate
from nemo_cot.traces.orders import Walk, ascending


def walk(candidates: Sequence[Candidate], config: CurateConfig) -> Walk:
    """As they come: candidates are shuffled."""
    return ascending([0] * len(candidates))
