"""A trace as a candidate for training: all that decides about it, without its text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from nemo_cot.config import CurateConfig
from nemo_cot.config.marks import MarksConfig
from nemo_cot.records import Problem, Trace
from nemo_cot.traces.filters import Context, bound, load_filters
from nemo_cot.traces.filters.finish import Filter as Finish
from nemo_cot.traces.filters.tokens import Filter as Tokens
from nemo_cot.traces.filters.verdict import Filter as Verdict
from nemo_cot.traces.keys import key_of, named_keys
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.orders import read_by
from nemo_cot.traces.structure import measure_names
from nemo_cot.traces.structure.profile import Found


@dataclass(eq=False)
class Candidate:
    """``row``: its number in the file, from 0, and ``offset``: where its line begins, in bytes. ``length``:
    tokens of the student, end-of-turn token included. ``text``: a digest of the generation. ``keys``: the
    values of those keys that curate.subset and curate.balance name. ``reason``: why a filter drops it, None
    if all let it pass. ``vector``: see structure/vectors.py. ``pass_rate``: right traces / all traces of its
    problem in the pool.
    """

    row: int
    offset: int
    problem_id: str
    sample: int
    length: int
    verdict: str | None
    text: bytes
    reason: str | None
    keys: dict[str, str | None] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    vector: np.ndarray | None = None
    pass_rate: float = math.nan


class Examiner:
    """Makes candidates of traces, by the rules of ``config``. ``problems``: see :func:`problem_keys`.

    ``context.shown`` collects what filters show.
    """

    def __init__(
        self,
        config: CurateConfig,
        marks: MarksConfig,
        heldout: Sequence[Problem] = (),
        problems: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        self.config, self.context = config, Context(Marks(marks), heldout)
        self._keeps_vectors = "vector" in read_by(config)
        rules = {
            "finish": Finish(list(config.finish_reasons)),
            "verdict": Verdict(list(config.verdicts)),
            "tokens": Tokens(config.min_tokens, config.max_tokens),
        }
        self._rules = bound(rules, self.context)
        self._filters = bound(load_filters(config.filters), self.context)
        self._subset = {key: _values(values) for key, values in config.subset.items()}
        self._keys, self._problems = named_keys(config), problems or {}

    def found(self, trace: Trace, length: int, row: int = 0, offset: int = 0) -> tuple[Candidate, Found]:
        """The candidate of ``trace``, and all measures of it for the profile of the pool. The candidate has a vector
        where the order asks for it, and no filter drops it.
        """
        keys = {key: key_of(trace, key, self._problems.get(trace.problem_id)) for key in self._keys}
        reason = self._first_reason(trace, length, keys)
        view = self.context.view(trace, length)
        found = Found.of(view, measure_names(), trace.problem_id)
        digest = hashlib.blake2b(trace.generation.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        candidate = Candidate(
            row, offset, trace.problem_id, trace.sample, length, trace.verdict, digest, reason, keys,
            measures={name: view.measured(name) for name in self.config.measures},
            vector=found.vector if reason is None and self._keeps_vectors else None,
        )  # fmt: skip
        return candidate, found

    def _first_reason(self, trace: Trace, length: int, keys: dict[str, str | None]) -> str | None:
        for name, drops in self._rules.items():
            if reason := drops(trace, length):
                return name if reason is True else reason
        if any(keys[key] not in values for key, values in self._subset.items()):
            return "subset"
        for name, drops in self._filters.items():
            if reason := drops(trace, length):
                return name if reason is True else reason
        return None


def _values(values: Any) -> frozenset[str]:
    listed = values if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    return frozenset(map(str, listed))


class SelectionRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A row of selection.jsonl: one trace of the pool. ``rule``: why it was dropped, or the order that chose it;
    ``rank``: its place among the chosen, from 0. ``measures`` that are not defined are null.
    """

    problem_id: str
    sample: int
    row: int
    chosen: bool
    rule: str
    num_student_tokens: int
    rank: int | None = None
    pass_rate: float | None = None
    keys: dict[str, str | None] = msgspec.field(default_factory=dict)
    measures: dict[str, float | None] = msgspec.field(default_factory=dict)
