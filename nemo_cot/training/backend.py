"""A training backend: a package of nemo_cot.training, found by its name in train.backend.

Its config.py defines the dataclass of its keys (``SCHEMA``), its backend.py a subclass of
:class:`Backend` (``BACKEND``); with its file in conf/train that is all that it takes. The rest of
the program knows no backend, and asks the one that is chosen.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from nemo_cot import training
from nemo_cot.config import Config, TrainConfig
from nemo_cot.config.cluster import ResourceClasses
from nemo_cot.config.rule import Rule, Span
from nemo_cot.models.facts import ModelFacts
from nemo_cot.stages import Output, Stage
from nemo_cot.stages.publish import SCRATCH

T = TypeVar("T", bound=TrainConfig)


@dataclass(frozen=True)
class TrainingCost:
    """What training of ``model`` costs, of the whole run. None: not known, or (``gpu_hours``) not estimated.

    ``formula`` is that of ``operations``. ``memory_bytes`` are needed at once in ``place``, such as the
    fullest GPU. ``gpu_hours`` are hours x GPUs of the steps, as ``at`` says. ``disk``: bytes of the models and
    checkpoints, by the stage that writes them; under SCRATCH what is gone when the training ends. ``host_bytes``: memory of a node that the optimizer takes as it
    starts, or for good where it is kept there. ``written_bytes`` and ``save_seconds``: all checkpoints of
    the run; training stands still meanwhile. ``seconds``: the whole stage on ``num_gpus``.
    """

    model: ModelFacts
    operations: float | None
    formula: str
    memory_bytes: float | None
    place: str
    disk: Mapping[str, int] | None
    gpu_hours: float | None = None
    at: str = ""
    host_bytes: float | None = None
    written_bytes: int | None = None
    save_seconds: float | None = None
    seconds: Span | None = None
    num_gpus: int = 0
    tokens_per_step: int = 0

    @property
    def disk_bytes(self) -> int | None:
        """What the whole run takes of the disk at most."""
        return None if self.disk is None else sum(self.disk.values())


@dataclass(frozen=True)
class Suggestion:
    """A layout that fits: the ``overrides`` that choose it (none: it is the configured one), and what it costs."""

    overrides: tuple[str, ...]
    cost: TrainingCost


class Backend(ABC, Generic[T]):
    """What the rest asks of the backend with the keys ``train``. All but the training itself has a default."""

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Asked with (cfg, cfg.train, :class:`TrainingCost`)."""
    packages: ClassVar[dict[str, str]] = {}
    """Modules that the stage train imports into its own Python, and what pip installs them with."""
    num_gpus: ClassVar[int | None] = None
    """The most GPUs that it uses per node, where that does not depend on its keys."""
    several_nodes: ClassVar[bool] = False
    cuts_at_eos: ClassVar[bool] = False
    """Whether its loaders cut every sequence at the eos of the tokenizer."""
    image: ClassVar[str] = ""
    """The target of our Dockerfile that it trains and converts in; empty where any Python with its packages will do."""
    started_by_srun: ClassVar[bool] = False
    """Whether the recipe stays outside of the container, and starts its processes there by srun."""
    task_per_gpu: ClassVar[bool] = False
    """Whether a job has a task per GPU, rather than per node."""
    more_checkpoints: ClassVar[str] = ""
    """How to keep the models of earlier steps to be scored."""
    fewer_checkpoints: ClassVar[str] = ""
    """How to keep fewer of them, where that can be chosen."""

    def __init__(self, train: T) -> None:
        self.train = train

    @abstractmethod
    def train_stage(self, cfg: Config) -> Stage:
        """The stage train."""

    def base_stage(self, cfg: Config) -> Stage | None:
        """The stage hf_to_nemo, where it trains from a format of its own."""
        return None

    def export_stage(self, cfg: Config) -> Stage | None:
        """The stage nemo_to_hf, where it does not train in a Hugging Face directory."""
        return None

    def trained_model(self, cfg: Config) -> Output:
        """The trained model's Hugging Face directory: training's own, or what it is converted to."""
        return Output((self.export_stage(cfg) or self.train_stage(cfg)).name, "model")

    def checkpoint_steps(self) -> list[int]:
        """The steps before the last whose models are kept, for the subject checkpoints."""
        return []

    def checkpoint_model(self, cfg: Config, step: int) -> Output:
        """The Hugging Face directory of one of :meth:`checkpoint_steps`, beside that of the last step."""
        return Output(self.trained_model(cfg).stage, checkpoint_folder(step))

    def cost(self, cfg: Config, model: ModelFacts, tokens: int) -> TrainingCost:
        """Of training on ``tokens`` per step.

        2 x parameters per token forward, 2 for the gradients of the activations and 2 for those of the
        weights (Kaplan et al., arXiv 2001.08361). On disk both models in bf16, and two checkpoints (the old
        one is kept until the new is whole) with fp32 weights and two moments.
        """
        count = model.parameters
        return TrainingCost(
            model=model,
            operations=6.0 * count * tokens * self.train.max_steps if count else None,
            formula="6 x parameters x tokens",
            memory_bytes=None,
            place="the machine",
            disk={"convert": 2 * count, "train": 2 * count, SCRATCH: 24 * count} if count else None,
            tokens_per_step=tokens,
        )

    def suggest(self, cfg: Config, model: ModelFacts, tokens: int) -> list[Suggestion]:
        """Layouts on GPUs that fit, the one with the fewest GPU-hours first; none where there is nothing to lay out."""
        return []

    def programs(self) -> dict[str, str]:
        """Interpreters that it starts, by config key."""
        return {}

    def paths(self) -> dict[str, str]:
        """Files and folders that it reads beside the stages' artifacts, by config key."""
        return {}

    def seconds_per_job(self, cfg: Config) -> int | None:
        """After so long a job of it has saved and stopped by itself; None where it does not."""
        return None

    def size(self, resources: ResourceClasses) -> tuple[int, int | None]:
        """Nodes, and GPUs per node, of a job that trains. Raises UserError where the profile contradicts."""
        return resources.train.nodes or 1, resources.train.gpus_per_node

    def in_container(self, recipe: str, srun_options: Sequence[str] | None) -> list[str]:
        """Overrides for a job of ``recipe`` with a container; ``srun_options`` are those of srun that put the
        training's processes into it, None where the recipe itself is in it.
        """
        return []


def checkpoint_folder(step: int) -> str:
    """Where the model after ``step`` steps is kept, in the stage that writes model/."""
    return f"checkpoints/step-{step}"


def sequences_per_step(cfg: Config) -> int:
    """Sequences that a step computes: with distinct batching at most each trace once."""
    whole = cfg.train.global_batch_size
    return whole if cfg.train.batching == "literal" else min(cfg.curate.num_traces, whole)


def names() -> list[str]:
    """Every training backend."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules(training.__path__)
        if (Path(module.module_finder.path) / module.name / "backend.py").is_file()
    )


def schemas() -> dict[str, type[TrainConfig]]:
    """The dataclass of each backend's keys, by the backend's name. Imports no backend."""
    return {name: _module(name, "config").SCHEMA for name in names()}


def backend_of(train: TrainConfig) -> Backend:
    """The backend that train.backend names."""
    return _module(train.backend, "backend").BACKEND(train)


class Sized(Protocol):
    """What a job is made for, and the kind of cluster.resources that it takes: a stage, or a job itself."""

    @property
    def recipe(self) -> str: ...

    @property
    def resources(self) -> str: ...


def job_size(cfg: Config, job: Sized) -> tuple[int, int | None]:
    """Nodes, and GPUs per node. Raises UserError where the profile and train.layout differ."""
    resources = cfg.cluster.slurm.resources
    if job.recipe == "train":
        return backend_of(cfg.train).size(resources)
    _, own = resources.of(job.resources)
    return own.nodes or 1, own.gpus_per_node


def _module(name: str, part: str) -> Any:
    return importlib.import_module(f"{training.__name__}.{name}.{part}")
