"""Transforms of chosen traces, for ablations: one file per transform, found by its name in transform.steps.

Each file defines a frozen dataclass ``Transform`` whose fields are its keys, ``dose`` (0 to 1) among them,
and a method ``edit(trace, parts, site)``, a pure function: the same trace, seed and place in the list give
the same text, whatever other rows there are. The doses are those of arXiv 2502.07374: the share of digits,
sentences or steps. Only the thought is edited, where the transform does not say otherwise. See
docs/extending.md.
"""

from __future__ import annotations

import dataclasses
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from nemo_cot.config.checks import between, seed
from nemo_cot.errors import UserError
from nemo_cot.named import load_named
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.steps import segment
from nemo_cot.traces.thought import split_thought

if TYPE_CHECKING:
    from nemo_cot.config import Config
    from nemo_cot.records import Trace
    from nemo_cot.stages import Output


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


class Donor(msgspec.Struct):
    """What is read of a trace that gives its steps to others."""

    problem_id: str
    sample: int
    generation: str
    expected_answer: str
    verdict: str | None = None


class Donors:
    """Right traces whose steps, or answers, others may get. Their order does not matter."""

    def __init__(self, rows: Sequence[Donor], marks: Marks) -> None:
        right = [row for row in rows if row.verdict == "right"]
        self._rows = sorted(right, key=lambda row: (row.problem_id, row.sample))
        self._per_problem = Counter(row.problem_id for row in self._rows)
        self._steps = lru_cache(maxsize=1024)(
            lambda at, split: [
                s.body
                for s in segment(split_thought(self._rows[at].generation, marks).thought, marks, split=split)
            ]
        )

    def another(self, trace: Trace, draw: random.Random) -> Donor:
        """One of another problem. Raises UserError where there is none."""
        return self._rows[self._place(trace, draw)]

    def step(self, trace: Trace, draw: random.Random, split: str) -> str:
        """A step of a trace of another problem."""
        for _ in range(1000):  # a trace may be all final solution
            if steps := self._steps(self._place(trace, draw), split):
                return draw.choice(steps)
        raise UserError(
            "no other right trace has a step", where=_where(trace), fix="choose more traces (curate)"
        )

    def _place(self, trace: Trace, draw: random.Random) -> int:
        if self._per_problem[trace.problem_id] == len(self._rows):
            raise UserError(
                f"needs a right trace of another problem; there are {len(self._rows)} right ones, all of this problem",
                where=f"transform.steps, {_where(trace)}",
                fix="choose traces of more problems (curate), or donors: pool",
            )
        while self._rows[place := draw.randrange(len(self._rows))].problem_id == trace.problem_id:
            pass
        return place


@dataclass(frozen=True)
class Site:
    """Where a transform works: the marks of conf/marks, its own draws for this trace, and other traces."""

    marks: Marks
    draw: random.Random
    donors: Donors


@dataclass(frozen=True)
class Edit:
    """The new text; ``done``: figures for the lineage; ``changes``: other fields of the trace that follow
    from it.
    """

    text: str
    done: dict[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)


def load_transforms(steps: Sequence[Any]) -> list[tuple[str, Any]]:
    """Name and transform of each of transform.steps. Raises UserError for an unknown name, key, value or
    dose.
    """
    loaded = []
    for number, step in enumerate(steps):
        key = f"transform.steps[{number}]"
        if not isinstance(step, dict) or "name" not in step:
            raise UserError(
                f"{step!r} is not a group with a name", where=key, fix="for example {name: digits, dose: 0.5}"
            )
        values = {own: value for own, value in step.items() if own != "name"}
        transform = load_named(
            sys.modules[__name__], "Transform", step["name"], values, key=key, what="transform"
        )
        between(f"{key}.dose", transform.dose, 0.0, 1.0)
        loaded.append((step["name"], transform))
    return loaded


def check_kinds(config: TransformConfig, kinds: Sequence[str]) -> None:
    """Raise UserError for a transform that names a kind of marks that conf/marks has not."""
    for number, (_, transform) in enumerate(load_transforms(config.steps)):
        for kind in getattr(transform, "kinds", ()):
            if kind not in kinds:
                raise UserError(
                    f"{kind!r} is no kind of marks.words", where=f"transform.steps[{number}].kinds",
                    fix=f"choose among {', '.join(kinds) or 'none: set marks=english'}",
                )  # fmt: skip


def reads_pool(config: TransformConfig) -> bool:
    """Whether a transform takes from all graded traces, and not from the chosen ones alone."""
    return any(getattr(transform, "donors", None) == "pool" for _, transform in load_transforms(config.steps))


def transformed(
    traces: Sequence[Trace], config: TransformConfig, marks: Marks, pool: Sequence[Donor] = ()
) -> Iterator[Trace]:
    """``traces`` with all of ``config.steps`` done, in their order. ``pool``: graded traces, where
    :func:`reads_pool`.

    Donors give the text that they have before any step.
    """
    loaded = load_transforms(config.steps)
    donors = {"chosen": Donors([_donor(trace) for trace in traces], marks), "pool": Donors(pool, marks)}
    for trace in traces:
        for number, (name, transform) in enumerate(loaded):
            draw = random.Random(f"{config.seed}:{number}:{name}:{trace.problem_id}:{trace.sample}")
            site = Site(marks, draw, donors[getattr(transform, "donors", "chosen")])
            edit = transform.edit(trace, split_thought(trace.generation, marks), site)
            changed = msgspec.structs.replace(trace, generation=edit.text, **edit.changes)
            values = dataclasses.asdict(transform)
            trace = changed.with_step(transformed_by=name, seed=config.seed, **values, **edit.done)
        yield trace


def summary(before: Sequence[Trace], after: Sequence[Trace]) -> Iterator[str]:
    """A line per step of the list with its figures over all traces, and one that says how many traces it all
    changed.
    """
    steps = [trace.lineage[len(old.lineage) :] for old, trace in zip(before, after, strict=True)]
    for of_one_step in zip(*steps):
        counts: Counter[str] = Counter()
        for step in of_one_step:
            counts.update({name: n for name, n in step.items() if type(n) is int and name != "seed"})
        yield f"{of_one_step[0]['transformed_by']}: " + ", ".join(
            f"{name} {n}" for name, n in counts.items() if name != "dose"
        )
    same = sum(old.generation == trace.generation for old, trace in zip(before, after))
    yield f"{len(before) - same} of {len(before)} traces changed"


def chosen_traces(cfg: Config) -> Output:
    """The traces that are trained on: those of curate, or what transform made of them where it applies."""
    from nemo_cot.stages import Output

    return Output("transform" if cfg.transform.steps else "curate", "traces.jsonl")


def _donor(trace: Trace) -> Donor:
    return Donor(trace.problem_id, trace.sample, trace.generation, trace.expected_answer, trace.verdict)


def _where(trace: Trace) -> str:
    return f"trace {trace.problem_id}, sample {trace.sample}"
