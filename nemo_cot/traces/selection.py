"""Choose the traces to train on, and count every one that is dropped by its reason."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nemo_cot.config import CurateConfig
from nemo_cot.errors import UserError
from nemo_cot.records import Trace
from nemo_cot.traces.filters import load_filters


@dataclass(frozen=True)
class Curated:
    """``traces`` in the order they were chosen; ``dropped`` counts the others by reason."""

    traces: list[Trace]
    dropped: dict[str, int]


def curate(traces: Sequence[Trace], lengths: Sequence[int], config: CurateConfig) -> Curated:
    """The first ``config.num_traces`` traces that pass every filter, in the order of ``config.order``.

    ``lengths`` counts the student's tokens of each answer, the end-of-turn token included. Order
    shuffle is random by ``config.seed``; order target puts lengths near the target first, equal
    distances as shuffled. Raises UserError when too few are left.
    """
    dropped: Counter[str] = Counter()
    candidates, filters = [], load_filters(config.filters)
    for trace, length in zip(traces, lengths, strict=True):
        reason = _reason(trace, length, config) or next(
            (name for name, drops in filters.items() if drops(trace, length)), None
        )
        if reason:
            dropped[reason] += 1
        else:
            candidates.append((trace, length))
    chosen = _choose(candidates, config, dropped)
    if len(chosen) < config.num_traces:
        counts = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items())) or "none"
        raise UserError(
            f"only {len(chosen)} of {config.num_traces} traces are left out of {len(traces)} (dropped: {counts})",
            where="curate",
            fix="widen curate.min_tokens and curate.max_tokens, raise generate.samples_per_problem, or lower curate.num_traces",
        )
    return Curated(chosen, dict(sorted(dropped.items())))


def _reason(trace: Trace, length: int, config: CurateConfig) -> str | None:
    if trace.finish_reason != "stop":
        return "unfinished"
    if trace.verdict not in config.verdicts:
        return f"verdict_{trace.verdict}"
    if length < config.min_tokens:
        return "too_short"
    if length > config.max_tokens:
        return "too_long"
    return None


def _choose(candidates: list[tuple[Trace, int]], config: CurateConfig, dropped: Counter[str]) -> list[Trace]:
    random.Random(config.seed).shuffle(candidates)
    if config.order == "target":
        candidates.sort(key=lambda pair: abs(pair[1] - config.target_tokens))
    chosen: list[Trace] = []
    taken: Counter[str] = Counter()
    texts: set[tuple[str, str]] = set()
    for trace, _ in candidates:
        if (trace.problem_id, trace.generation) in texts:
            dropped["duplicate"] += 1
        elif taken[trace.problem_id] >= config.per_problem:
            dropped["enough_of_problem"] += 1
        elif len(chosen) >= config.num_traces:
            dropped["beyond_num_traces"] += 1
        else:
            chosen.append(trace)
            taken[trace.problem_id] += 1
            texts.add((trace.problem_id, trace.generation))
    return chosen
