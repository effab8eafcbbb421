"""easy: problems that the teacher solves most often first."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_cot.config import CurateConfig
from nemo_cot.traces.candidates import Candidate
from nemo_cot.traces.orders import Walk, ascending


def walk(candidates: Sequence[Candidate], config: CurateConfig) -> Walk:
    """By the pass rate of the problem over all traces of the pool."""
    return ascending([-candidate.pass_rate for candidate in candidates])
