"""target: lengths nearest to curate.target_tokens first."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_cot.config import CurateConfig
from nemo_cot.traces.candidates import Candidate
from nemo_cot.traces.orders import Walk, ascending


def walk(candidates: Sequence[Candidate], config: CurateConfig) -> Walk:
    """By the distance, in tokens."""
    return ascending([abs(candidate.length - config.target_tokens) for candidate in candidates])
