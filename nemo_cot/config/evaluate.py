"""The schema of evaluate: which models are asked the held-out problems, how, and how they are scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from nemo_cot.config.checks import at_least, between, holds_problem, one_of, plain_name, seed, some_of
from nemo_cot.config.data import ProblemsConfig
from nemo_cot.config.engines import EngineConfig, EvaluatedModel, SamplingConfig
from nemo_cot.config.examples import ExamplesConfig
from nemo_cot.errors import UserError

OWN_SUBJECTS = ("base", "prompted", "trained")
"""Models of the run itself (prompted: the base model, with evaluate.examples); evaluate.models may name more."""
_TAKEN = ("examples-", "chunk-")
"""How stages beside those of a set begin."""
CHECKPOINTS, AT_STEP = "checkpoints", "trained@"
"""In evaluate.subjects, all models that training kept before the last; and one of them, with its step behind."""


@dataclass
class SetConfig:
    """A further held-out set: the held-out part of ``problems``, a file of conf/problems. The others null: as for the
    run's own (evaluate.samples_per_problem, evaluate.sampling.max_new_tokens).
    """

    problems: ProblemsConfig
    samples_per_problem: Optional[int] = None  # noqa: UP045
    max_new_tokens: Optional[int] = None  # noqa: UP045

    def check(self, key: str) -> None:
        """Raise UserError, naming keys below ``key``."""
        for name in ("samples_per_problem", "max_new_tokens"):
            if (value := getattr(self, name)) is not None:
                at_least(f"{key}.{name}", value, 1)
        if self.problems.of_traces:
            raise UserError("its held-out problems are a file of their own", where=f"{key}.problems",
                            fix=f"set {key}.problems=file and {key}.problems.heldout_path")  # fmt: skip


@dataclass
class EvaluateConfig:
    """Samples a held-out problem, drawn alike from every subject: base, prompted, trained, checkpoints (as many subjects as
    training kept), or a key of ``models``.

    ``chunks``: as in :class:`GenerateConfig`. ``examples``: those of the subject prompted, and of each of ``models`` that
    has some. ``token_budgets``: tokens per answer at which the samples are scored as if longer answers were cut; ``over_budget``: such
    an answer counts as wrong (cut), or with what is found in its text so far (found). ``sets``: further held-out
    problems, by name, which all subjects are asked too.
    """

    subjects: list[str]
    models: dict[str, EvaluatedModel]
    samples_per_problem: int
    seed: int
    sampling: SamplingConfig
    engine: EngineConfig
    bootstrap_resamples: int
    confidence: float
    chunks: int
    examples: ExamplesConfig
    token_budgets: list[int]
    over_budget: str
    sets: dict[str, SetConfig]

    def __post_init__(self) -> None:
        for name, model in self.models.items():
            plain_name("evaluate.models", name, taken=(*OWN_SUBJECTS, CHECKPOINTS, "scores"))
            holds_problem(f"evaluate.models.{name}.prompt", model.prompt)
        for name, one in self.sets.items():
            plain_name("evaluate.sets", name, taken=(*OWN_SUBJECTS, CHECKPOINTS, "scores", *self.models))
            if name.startswith(_TAKEN):
                raise UserError(f"{name!r} would be the name of another stage", where="evaluate.sets", fix="rename it")
            one.check(f"evaluate.sets.{name}")
        steps = [name for name in self.subjects if re.fullmatch(rf"{AT_STEP}[1-9]\d*", name)]
        some_of("evaluate.subjects", self.subjects, (*OWN_SUBJECTS, CHECKPOINTS, *self.models, *steps))
        for name in self.subjects:
            if (examples := self.examples_of(name)) is not None:
                self._check_engine(examples, self.examples_key(name))
        at_least("evaluate.samples_per_problem", self.samples_per_problem, 1)
        seed("evaluate.seed", self.seed)
        between("evaluate.chunks", self.chunks, 1, self.samples_per_problem)
        at_least("evaluate.bootstrap_resamples", self.bootstrap_resamples, 100)
        between("evaluate.confidence", self.confidence, 0.5, 0.9999)
        one_of("evaluate.over_budget", self.over_budget, ("cut", "found"))
        self._check_budgets()

    def _check_budgets(self) -> None:
        budgets, limit = list(self.token_budgets), self.sampling.max_new_tokens
        if budgets != sorted(set(budgets)) or not all(1 <= budget <= limit for budget in budgets):
            raise UserError(
                f"{budgets} are not rising numbers between 1 and evaluate.sampling.max_new_tokens {limit}: longer answers "
                "are not sampled", where="evaluate.token_budgets", fix=f"for example [{max(1, limit // 4)}, {limit}]",
            )  # fmt: skip

    @property
    def intervals(self) -> dict[str, Any]:
        """The arguments of what makes intervals (nemo_cot.evaluation.intervals)."""
        return {"resamples": self.bootstrap_resamples, "confidence": self.confidence, "seed": self.seed}

    def on(self, name: str) -> EvaluateConfig:
        """As it applies to the set ``name``, with no other: a model's own limit of new tokens holds where it is lower."""
        one, sampling, models = self.sets[name], self.sampling, self.models
        samples = one.samples_per_problem or self.samples_per_problem
        if (limit := one.max_new_tokens) is not None:
            sampling = replace(sampling, max_new_tokens=limit)
            own = {key: model.max_new_tokens and min(model.max_new_tokens, limit) for key, model in models.items()}
            models = {key: replace(model, max_new_tokens=own[key]) for key, model in models.items()}
        return replace(
            self, samples_per_problem=samples, chunks=min(self.chunks, samples), sampling=sampling, models=models, sets={},
            token_budgets=[budget for budget in self.token_budgets if budget <= sampling.max_new_tokens],
        )  # fmt: skip

    def steps_asked(self, kept: Sequence[int]) -> list[int]:
        """Those of the ``kept`` steps of training whose models are among the subjects."""
        return [step for step in kept if CHECKPOINTS in self.subjects or f"{AT_STEP}{step}" in self.subjects]

    def examples_of(self, subject: str) -> ExamplesConfig | None:
        """What stands before the problems that ``subject`` is asked; None for nothing."""
        if subject == "prompted":
            return self.examples
        given = self.models[subject].examples if subject in self.models else None
        return None if given is None else self.examples.changed(given, self.examples_key(subject))

    @staticmethod
    def examples_key(subject: str) -> str:
        """The part of the config that :meth:`examples_of` ``subject`` is from."""
        return "evaluate.examples" if subject == "prompted" else f"evaluate.models.{subject}.examples"

    def _check_engine(self, examples: ExamplesConfig, key: str) -> None:
        client = self.engine.client
        if getattr(client, "prompt_config", None) is not None:
            raise UserError("the engine has a prompt of NeMo-Skills' own, without examples", where=key,
                            fix="set evaluate.engine.prompt_config=null")  # fmt: skip
        if client and client.dialect == "openai" and len(examples.stop) > 2:
            raise UserError("OpenAI's API takes 4 stop texts, and 2 are taken", where=f"{key}.stop",
                            fix="give 2 or fewer, or evaluate.engine.dialect=vllm")  # fmt: skip
