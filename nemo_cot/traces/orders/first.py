"""first: as they stand in the file."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_cot.config import CurateConfig
from nemo_cot.traces.candidates import Candidate
from nemo_cot.traces.orders import Walk, ascending


def walk(candidates: Sequence[Candidate], config: CurateConfig) -> Walk:
    """By row."""
    return ascending([candidate.row for candidate in candidates])
