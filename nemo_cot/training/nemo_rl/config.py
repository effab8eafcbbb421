"""The keys of train=nemo_rl. Values: conf/train/nemo_rl.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.config.checks import at_least, runtime
from nemo_cot.training.nemo.config import NemoTrain


@dataclass
class NemoRlTrain(NemoTrain):
    """NeMo-RL. ``nemo_rl_directory``: its source tree in the container, where `uv run` finds its lock.

    ``optimizer_cpu_offload`` keeps the optimizer's state in host memory and steps there. ``ray``: the program,
    as the container knows it; ``ray_wait_seconds``: how long the nodes of a job have to come together.
    """

    nemo_rl_directory: str = runtime()
    optimizer_cpu_offload: bool = runtime()
    ray: str = runtime()
    ray_wait_seconds: int = runtime()

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("train.ray_wait_seconds", self.ray_wait_seconds, 1)

    @property
    def own_objective(self) -> str:
        """Mean over the trained tokens of the global batch."""
        return "token_mean"

    @property
    def width_multiple(self) -> int:
        """Of each sequence: sequence parallelism slices by TP, context parallelism by 2 x CP."""
        context = self.layout.context_parallel_size
        return self.layout.tensor_model_parallel_size * (2 * context if context > 1 else 1)


SCHEMA = NemoRlTrain
