"""The steps that a NeMo backend saved: whether the last one is among them, and which are converted."""

from __future__ import annotations

from collections.abc import Collection

from nemo_cot.errors import Unfinished, UserError
from nemo_cot.training.nemo.config import NemoTrain


def check_finished(saved: Collection[int], max_steps: int) -> None:
    """Raise UserError unless the last step is among the ``saved``: Unfinished, where a step was saved to go
    on from (a job of a chain requeues itself, or the next one goes on).

    Both backends end with exit code 0 at their time limit too, and NeMo-RL also after no step at all.
    """
    last = max(saved, default=0)
    if last < max_steps:
        raise (Unfinished if last else UserError)(
            f"training stopped after step {last} of {max_steps}, at train.max_time_per_run",
            where="train",
            fix="run the same command again: it resumes there",
        )


def steps_to_convert(train: NemoTrain, saved: Collection[int], asked: Collection[int] = ()) -> list[int]:
    """The steps that train.conversion.average_steps names, or the last one. ``asked``: those that are evaluated.

    Raises UserError for a step that was not saved, or was removed since (train.save_top_k).
    """
    if missing := sorted(set(asked) - set(saved)):
        raise UserError(
            f"step {missing[0]} is not among the saved ones, {sorted(saved)}",
            where="evaluate.subjects",
            fix="name saved steps (trained@STEP), or raise train.save_top_k and train again",
        )
    chosen = train.conversion.average_steps or [train.max_steps]
    if missing := sorted(set(chosen) - set(saved)):
        raise UserError(
            f"step {missing[0]} is not among the saved ones, {sorted(saved)}",
            where="train.conversion.average_steps",
            fix="name saved steps, or raise train.save_top_k and train again",
        )
    return sorted(chosen)
