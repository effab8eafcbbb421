"""diverse_structure: each trace as unlike those already taken as can be, by its structural measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nemo_cot.config import CurateConfig
from nemo_cot.traces.candidates import Candidate
from nemo_cot.traces.orders import Walk, farthest_first

NEEDS = ("measures",)


def walk(candidates: Sequence[Candidate], config: CurateConfig) -> Walk:
    """Farthest first over the measures of curate.measures, each brought to mean 0 and spread 1; one that is not
    defined counts as the mean.
    """
    if candidates:
        table = np.array(
            [[c.measures[name] for name in config.measures] for c in candidates], dtype=np.float64
        )
        table = np.where(np.isfinite(table), table, np.nan)
        known = ~np.isnan(table)
        count = np.maximum(known.sum(axis=0), 1)
        centred = np.where(known, table - np.where(known, table, 0.0).sum(axis=0) / count, 0.0)
        spread = np.sqrt((centred**2).sum(axis=0) / count)
        yield from farthest_first((centred / np.where(spread > 0, spread, 1.0)).astype(np.float32))
