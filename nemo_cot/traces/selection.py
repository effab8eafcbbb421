"""Choose the traces to train on, and count every one that is dropped by its reason."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nemo_cot.config import CurateConfig
from nemo_cot.errors import UserError
from nemo_cot.traces.candidates import Candidate, SelectionRow
from nemo_cot.traces.orders import ORDERS
from nemo_cot.traces.quotas import Quotas


@dataclass(frozen=True)
class Curated:
    """``chosen`` in the order they were chosen; ``reasons``: why each other one was dropped, by its row."""

    chosen: list[Candidate]
    reasons: dict[int, str]
    pool: Sequence[Candidate]
    order: str

    @property
    def dropped(self) -> dict[str, int]:
        """How many were dropped for each reason, by name."""
        return dict(sorted(Counter(self.reasons.values()).items()))

    def remarks(self, config: CurateConfig, flagged: int) -> Iterator[str]:
        """What the user should know: a key that changed nothing, and what filters show."""
        most = max(Counter(c.problem_id for c in self.chosen).values())
        if most == 1 < config.per_problem and config.num_problems is None:
            yield (
                f"curate.per_problem={config.per_problem} changed nothing: all are of different problems; for few problems "
                "with many traces each, set curate.num_problems"
            )
        if flagged:
            yield f"{flagged} rows to look at in flagged.jsonl"

    def rows(self) -> Iterator[SelectionRow]:
        """A row for each trace of the pool, in the file's order."""
        ranks = {candidate.row: rank for rank, candidate in enumerate(self.chosen)}
        for c in self.pool:
            yield SelectionRow(
                problem_id=c.problem_id,
                sample=c.sample,
                row=c.row,
                chosen=c.row in ranks,
                rule=self.reasons.get(c.row, self.order),
                rank=ranks.get(c.row),
                num_student_tokens=c.length,
                pass_rate=round(c.pass_rate, 6),
                keys=c.keys,
                measures={name: v if math.isfinite(v) else None for name, v in c.measures.items()},
            )


def choose(pool: Sequence[Candidate], config: CurateConfig) -> Curated:
    """``config.num_traces`` of the candidates that no filter drops, in the order ``config.order`` (equal ones
    by ``config.ties``, then at random by the seed), within the quotas: per problem, number of problems, ratio
    of verdicts, balance by a key.

    Raises UserError with the arithmetic when the pool cannot give that.
    """
    pool = _with_pass_rates(pool)
    reasons = {c.row: c.reason for c in pool if c.reason is not None}
    low, high = config.pass_rate
    reasons.update({c.row: "pass_rate" for c in pool if c.reason is None and not low <= c.pass_rate <= high})
    candidates = [c for c in pool if c.row not in reasons]
    random.Random(config.seed).shuffle(candidates)
    for name in reversed(config.ties):
        candidates = [candidates[place] for place in ORDERS[name](candidates, config)]
    quotas = Quotas(candidates, config)
    walked = _walk(candidates, quotas, config)
    if len(quotas.taken) < config.num_traces:
        quotas.complete(walked)
    taken = quotas.taken
    kept = {c.row for c in taken}
    reasons.update({c.row: quotas.refuses(c) or "beyond_num_traces" for c in candidates if c.row not in kept})
    found = Curated(taken, reasons, pool, config.order)
    if len(taken) < config.num_traces:
        raise _too_few(found, quotas, config)
    return found


def _walk(candidates: Sequence[Candidate], quotas: Quotas, config: CurateConfig) -> list[Candidate]:
    """Take candidates in their order as long as the quotas have room. Returns those that were looked at, in
    order.
    """
    walk, walked = ORDERS[config.order](candidates, config), []
    try:
        place = next(walk)
        while len(quotas.taken) < config.num_traces:
            walked.append(candidates[place])
            place = walk.send(quotas.take(candidates[place]))
    except StopIteration:
        pass
    return walked


def _with_pass_rates(pool: Sequence[Candidate]) -> list[Candidate]:
    """Over all traces of a problem; cut and undecided ones count as not right."""
    right: dict[str, list[bool]] = defaultdict(list)
    for c in pool:
        right[c.problem_id].append(c.verdict == "right")
    rates = {problem: sum(verdicts) / len(verdicts) for problem, verdicts in right.items()}
    return [replace(c, pass_rate=rates[c.problem_id]) for c in pool]


_REMEDIES = {
    "too_short": "lower curate.min_tokens", "too_long": "raise curate.max_tokens", "unfinished": "curate.finish_reasons=[stop,length]",
    "subset": "correct curate.subset", "pass_rate": "widen curate.pass_rate",
}  # fmt: skip
"""By the reason why traces were dropped."""


def _too_few(found: Curated, quotas: Quotas, config: CurateConfig) -> UserError:
    counts = ", ".join(f"{reason} {count}" for reason, count in found.dropped.items()) or "none"
    quota = quotas.arithmetic()
    why = [quota] if quota else []
    if "subset" in found.dropped:
        why += [_values(found.pool, key) for key in config.subset]
    remedies = [_REMEDIES[reason] for reason, _ in Counter(found.dropped).most_common() if reason in _REMEDIES]
    changes = [*remedies, "raise generate.samples_per_problem", "lower curate.num_traces"]
    return UserError(
        f"only {len(found.chosen)} of {config.num_traces} traces are left out of {len(found.pool)} (dropped: {counts})"
        + "".join(f"; {reason}" for reason in why),
        where="curate",
        fix=", or ".join(changes) + (f"; or change {quotas.keys()}" if quota else ""),
    )


def _values(pool: Sequence[Candidate], key: str) -> str:
    """The values of a key of curate.subset, the commonest first."""
    values = Counter(c.keys[key] for c in pool if c.keys[key] is not None)
    named = ", ".join(f"{value:.40}" for value, _ in values.most_common(8)) + ", ..." * (len(values) > 8)
    return f"{key} is {named}" if values else f"no trace has the key {key}"
