"""The held-out sets of a run: its own problems, and those of evaluate.sets. Each is asked and scored in the same way."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from nemo_cot.config import Config
from nemo_cot.evaluation.examples import EXAMPLES
from nemo_cot.sampling.chunks import GENERATIONS
from nemo_cot.stages import Output

EVALUATE = "evaluate"
HELDOUT = "heldout.jsonl"


@dataclass(frozen=True)
class HeldOut:
    """A set; ``name`` is empty for the run's own. ``cfg``: the run's config as it applies to the set, whose problems,
    number of samples and limit of new tokens stand in the place of the run's own.
    """

    name: str
    cfg: Config

    @property
    def key(self) -> str:
        """The part of the run's config that its problems are from."""
        return f"evaluate.sets.{self.name}.problems" if self.name else "problems"

    @property
    def problems(self) -> Output:
        """Its problems."""
        return Output(f"problems/{self.name}" if self.name else "problems", HELDOUT)

    def stage(self, part: str) -> str:
        """The stage of a subject on this set, of its examples, or of the scores: evaluate/base, evaluate/SET/base."""
        return stage_on(self.name, part)

    def generations(self, subject: str) -> Output:
        """What a subject wrote."""
        return Output(self.stage(subject), GENERATIONS)

    def examples(self, subject: str) -> Output:
        """What stands before the problems that a subject is asked."""
        return Output(self.stage(f"examples-{subject}"), EXAMPLES)

    def named(self, what: str) -> str:
        """``what`` (a subject, a step) with the set beside it, where it is not the run's own."""
        return on_set(what, self.name)


def stage_on(name: str, part: str) -> str:
    """As :meth:`HeldOut.stage`, of the set ``name``."""
    return "/".join(filter(None, (EVALUATE, name, part)))


def on_set(what: str, name: str) -> str:
    """``what`` on the set ``name``, for readers; on the run's own (an empty name) just ``what``."""
    return f"{what} on {name}" if name else what


def further_sets(cfg: Config) -> list[HeldOut]:
    """Those of evaluate.sets."""
    found = []
    for name, one in cfg.evaluate.sets.items():
        own = copy.copy(cfg)  # not checked anew: the teacher need not be able to solve these problems
        own.problems, own.evaluate = one.problems, cfg.evaluate.on(name)
        found.append(HeldOut(name, own))
    return found


def held_out_sets(cfg: Config) -> list[HeldOut]:
    """The run's own set first."""
    return [HeldOut("", cfg), *further_sets(cfg)]
