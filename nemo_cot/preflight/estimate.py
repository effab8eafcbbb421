"""What a run will cost: tokens, packs, operations, memory. Estimates, with their formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.models.facts import ModelFacts, model_facts
from nemo_cot.preflight.sampling_cost import SamplingCost, sampling_costs
from nemo_cot.stages import RunDirectory
from nemo_cot.training.backend import TrainingCost, backend_of, sequences_per_step

_CHARACTERS_PER_TOKEN = 3.0
_PROBLEM_CHARACTERS = 90
"""A short problem statement: the real one is known only when the problems are made."""


@dataclass(frozen=True)
class Estimate:
    """Counts are of the whole run; None where they are not known before the problems or the model are there.

    ``sampling`` has an entry for each model that is sampled.
    """

    prompt_tokens: int
    tokens_per_step: int
    packs_per_step: int
    model: ModelFacts
    training: TrainingCost
    sampled_tokens_at_most: int | None
    sampling: tuple[SamplingCost, ...] = ()


def estimate(
    cfg: Config,
    model_directory: Path | None,
    num_heldout: int | None,
    *,
    num_train: int | None = None,
    run: RunDirectory | None = None,
) -> Estimate:
    """Estimate ``cfg`` with the model in ``model_directory`` (None: not there yet).

    ``num_train`` and ``num_heldout`` count problems (None: not known yet). ``run``: whose answers are counted where
    there are some.
    """
    prompt = math.ceil((len(cfg.model.prompt) + _PROBLEM_CHARACTERS) / _CHARACTERS_PER_TOKEN)
    c = cfg.curate
    by_target = "target" in (c.order, *c.ties)  # other orders take lengths from all over the window
    length = prompt + (c.target_tokens if by_target else (c.min_tokens + c.max_tokens) // 2)
    sequences = sequences_per_step(cfg)
    model = model_facts(model_directory, cfg.model.shape)
    sampling = sampling_costs(cfg, prompt, num_train, num_heldout, run)
    evaluated = [cost.tokens_at_most for cost in sampling if cost.use.part == "heldout"]
    return Estimate(
        prompt_tokens=prompt,
        tokens_per_step=sequences * length,
        packs_per_step=math.ceil(sequences / max(1, cfg.pack.capacity_tokens // length)),
        model=model,
        training=backend_of(cfg.train).cost(cfg, model, sequences * length),
        sampled_tokens_at_most=None if None in evaluated else sum(n for n in evaluated if n),
        sampling=sampling,
    )
