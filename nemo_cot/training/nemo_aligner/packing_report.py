"""How full the packs of a run are, and how unequally NeMo-Aligner's loss weighs their tokens."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from nemo_cot.packing import StepPacks, lower_bound, utilisation
from nemo_cot.training.nemo_aligner.loss_weights import aligner_token_weights, mean_token_weights


class PackingReport(msgspec.Struct, frozen=True):
    """Of all steps together, as they are trained.

    ``token_weight_*``: what a trained token weighs in its step, beside the mean over all tokens of
    that step (1.0: alike); the extremes over steps and sequences. See docs/packing.md.
    """

    packs: int
    packs_per_step: int
    fewest_packs_possible: int
    utilisation: float
    token_weight_lowest: float
    token_weight_highest: float

    def line(self) -> str:
        """The report in one line."""
        return (
            f"packing: {self.packs} packs of at least {self.fewest_packs_possible}, {self.packs_per_step} a step, "
            f"{self.utilisation:.1%} full; a trained token weighs {self.token_weight_lowest:.2f} to "
            f"{self.token_weight_highest:.2f} of the mean over the step's tokens"
        )


def packing_report(
    steps: StepPacks, lengths: Sequence[int], trained_tokens: Sequence[int], capacity_tokens: int
) -> PackingReport:
    """Figures of ``steps``. lengths: room that each sequence takes; trained_tokens: of each sequence.

    fewest_packs_possible is a lower bound, summed over steps: a pack belongs to one step.
    """
    count = len(steps.packs) // steps.packs_per_step
    slices = [slice(i * steps.packs_per_step, (i + 1) * steps.packs_per_step) for i in range(count)]
    weights = []  # Aligner's of a token over the mean's, of each sequence that the step draws
    for s in slices:
        mean = mean_token_weights(steps.packs[s], steps.weights[s], trained_tokens)
        own = aligner_token_weights(steps.packs[s], steps.weights[s], trained_tokens)
        weights.append(own[mean > 0] / mean[mean > 0])
    return PackingReport(
        packs=len(steps.packs),
        packs_per_step=steps.packs_per_step,
        fewest_packs_possible=sum(_bound(steps.packs[s], lengths, capacity_tokens) for s in slices),
        utilisation=utilisation(steps.packs, lengths, capacity_tokens),
        token_weight_lowest=float(min(row.min() for row in weights)),
        token_weight_highest=float(max(row.max() for row in weights)),
    )


def _bound(packs: Sequence[Sequence[int]], lengths: Sequence[int], capacity: int) -> int:
    return lower_bound(np.asarray(lengths)[np.concatenate(packs)], capacity)
