"""What the stages of both NeMo backends share, and what the rest of the program is told alike of both."""

from __future__ import annotations

import os
import shutil
import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.config.cluster import ResourceClasses
from nemo_cot.config.gpus import gpu_of
from nemo_cot.config.model import ModelConfig, ModelShape
from nemo_cot.config.overrides import hydra_quoted
from nemo_cot.config.rule import Span
from nemo_cot.errors import UserError
from nemo_cot.io.json_file import write_json
from nemo_cot.models.facts import ModelFacts
from nemo_cot.models.format import base_model
from nemo_cot.progress import track
from nemo_cot.serving.process import Process
from nemo_cot.stages import Output, Source, Stage
from nemo_cot.stages.publish import SCRATCH
from nemo_cot.training.backend import Backend, Suggestion, TrainingCost, checkpoint_folder
from nemo_cot.training.lora import with_adapters
from nemo_cot.training.nemo import speed
from nemo_cot.training.nemo.checkpoints import check_finished, steps_to_convert
from nemo_cot.training.nemo.command import Command, run_command
from nemo_cot.training.nemo.config import NemoTrain, seconds_of
from nemo_cot.training.nemo.converted import finish_hf_directory
from nemo_cot.training.nemo.keys import Keys
from nemo_cot.training.nemo.memory import GpuMemory, gpu_memory
from nemo_cot.training.nemo.saves import SAVED, saves_of
from nemo_cot.training.nemo.suggest import candidates, fits, overrides

N = TypeVar("N", bound=NemoTrain)


class NemoBackend(Backend[N]):
    """Megatron training in a container, whose checkpoints the stage nemo_to_hf converts."""

    several_nodes = True
    cuts_at_eos = True
    more_checkpoints = "raise train.save_top_k, with train.save_interval_steps below train.max_steps"
    keys: ClassVar[Keys]
    """Of its own config, by which train.overrides is checked."""
    log_dir: ClassVar[str]
    """Folder of the train stage in which the backend writes its logs and checkpoints."""

    @staticmethod
    @abstractmethod
    def saved_steps(folder: Path) -> dict[int, Path]:
        """Step -> checkpoint, of the whole ones in the train stage's ``folder``, in order."""

    @abstractmethod
    def to_hugging_face(self, checkpoint: Path, inputs: Mapping[str, Path], base: Path, target: Path) -> None:
        """Convert ``checkpoint`` into the new folder ``target``; ``inputs`` are those of nemo_to_hf."""

    @abstractmethod
    def average(self, models: Sequence[Path], inputs: Mapping[str, Path], target: Path) -> None:
        """Write the mean of ``models``, in a Python with torch: the recipe's may be the light core's."""

    def export_parts(self) -> dict[str, Source]:
        """What the conversion reads and decides nothing."""
        return {}

    def stage(
        self,
        cfg: Config,
        inputs: Mapping[str, Source],
        more: dict[str, Any],
        work: Callable[[Path, Mapping[str, Path]], None],
    ) -> Stage:
        """The stage train, inside the training container.

        A run that was cut short, by its time limit or a kill, goes on from the last checkpoint when
        the same command is given again.
        """
        return Stage(
            "train",
            inputs=inputs,
            config={"train": fingerprinted(self.train), "pack": fingerprinted(cfg.pack), **more},
            settings={"save_interval_steps": self.train.save_interval_steps},
            work=work,
            writes=("trained.json",),
            resumable=True,
            listed=(self.log_dir, "megatron_base"),
            resources="train",
        )

    def run(self, command: Command, folder: Path, beside: Process | None = None) -> None:
        """Train to the last step. trained.json, written last, stands for the weights where they are an input.

        ``beside``: what the command needs for as long as it runs.
        """
        command = command._replace(environment={**command.environment, **self.train.loggers.environment()})
        write_json(folder / "command.json", {**command._asdict(), "directory": str(command.directory or "")})
        run_command(command, os.environ, beside=beside, log=folder / SCRATCH / "train.log")
        saved = self.saved_steps(folder)
        check_finished(saved, self.train.max_steps)
        checkpoints = {step: path.relative_to(folder).as_posix() for step, path in saved.items()}
        # The id is new at every training: two runs of one config end in different weights on GPUs.
        write_json(folder / "trained.json", {"id": uuid.uuid4().hex, "checkpoints": checkpoints})

    def checkpoint_steps(self) -> list[int]:
        """Those that train.save_top_k keeps."""
        return [step for step in self.train.kept_steps if step != self.train.max_steps]

    def _asked(self, cfg: Config) -> list[int]:
        """Those that are evaluated."""
        return cfg.evaluate.steps_asked(self.checkpoint_steps()) if "evaluate" in cfg.launcher.stages else []

    def export_stage(self, cfg: Config) -> Stage:
        """Write model/ (weights, config, tokenizer): of the last step, or the mean of several steps; and
        checkpoints/step-N, for those that are evaluated.
        """
        asked = self._asked(cfg)

        def work(folder: Path, inputs: Mapping[str, Path]) -> None:
            saved = self.saved_steps(inputs["trained"].parent)
            steps = steps_to_convert(self.train, saved, asked)
            models = [folder / SCRATCH / f"step_{step}" for step in steps]
            targets = [*((step, folder / checkpoint_folder(step)) for step in asked), *zip(steps, models)]
            with track("convert checkpoints", len(targets), "checkpoints", folder) as tracker:
                for number, (step, target) in enumerate(targets, start=1):
                    if not target.is_dir():  # a former attempt has converted it
                        self._convert(saved[step], inputs, target, cfg.model)
                    tracker.update(number)
            shutil.rmtree(folder / "model", ignore_errors=True)
            if len(models) == 1:
                models[0].rename(folder / "model")
            else:
                self.average(models, inputs, folder / "model")
            finish_hf_directory(folder / "model", inputs["base"], cfg.model)

        return Stage(
            "nemo_to_hf",
            inputs={"base": base_model(cfg.model), "trained": Output("train", "trained.json")},
            config={"conversion": fingerprinted(self.train.conversion), **({"checkpoints": asked} if asked else {})},
            work=work,
            writes=("model", *(["checkpoints"] if asked else [])),
            resumable=True,
            parts=self.export_parts(),
            resources="conversion",
        )

    def _convert(
        self, checkpoint: Path, inputs: Mapping[str, Path], target: Path, model: ModelConfig
    ) -> None:
        """Convert one checkpoint; ``target`` is there only when it is whole."""
        unfinished = target.with_name(f".{target.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        base = inputs["base"].resolve()
        self.to_hugging_face(checkpoint, inputs, base, unfinished)
        finish_hf_directory(unfinished, base, model)
        unfinished.rename(target)

    @property
    def fewer_checkpoints(self) -> str:  # type: ignore[override]
        """LoRA's are small, and one is kept."""
        return "" if self.train.lora.enabled or self.train.kept_saves == 1 else "lower train.save_top_k"

    def cost(self, cfg: Config, model: ModelFacts, tokens: int) -> TrainingCost:
        """On the fullest GPU; the time is :func:`nemo_cot.training.nemo.speed.step_seconds`, start-up and saves.

        On disk are the converted base, and checkpoints of 14 bytes per parameter with the optimizer's state: those that are kept, and the
        one that is being written; LoRA's are small. And the models of earlier steps that are evaluated.
        """
        train = self.train
        cost = with_adapters(super().cost(cfg, model, tokens), train, tokens)
        shape, count = model.shape, model.parameters
        if count is None or cost.operations is None:
            return replace(cost, place="the fullest GPU")
        lora = train.lora.enabled
        if shape:
            saves = saves_of(train, shape)
            cost = replace(cost, written_bytes=saves.written_bytes, save_seconds=saves.seconds)
        if shape and train.layout.world_size % train.layout.model_parallel_size == 0:  # else rule nemo_copies
            memory = self.memory(shape, cfg.pack.capacity_tokens)
            cost = replace(cost, memory_bytes=memory.total, host_bytes=self.host_bytes(shape))
        cost = replace(
            cost,
            place="the fullest GPU",
            disk={
                "convert": 2 * count, "hf_to_nemo": 2 * count, "nemo_to_hf": 2 * count * (1 + len(self._asked(cfg))),
                **({} if lora else {"train": SAVED * count * train.kept_saves, SCRATCH: SAVED * count}),
            },
        )
        return self._timed(cfg, cost, tokens)

    def _timed(self, cfg: Config, cost: TrainingCost, tokens: int) -> TrainingCost:
        train, layout, shape = self.train, self.train.layout, cost.model.shape
        if shape is None or cost.memory_bytes is None:
            return cost
        gpu = gpu_of(cfg.cluster.slurm.gpu_type if cfg.cluster.slurm else None)
        packed = cfg.pack.capacity_tokens
        each = speed.step_seconds(shape, layout, train.lora, tokens=tokens, pack_tokens=packed, gpu=gpu)
        steps, beside = each * train.max_steps, speed.START_SECONDS + (cost.save_seconds or 0.0)
        low, high = (steps * speed.MATRIX_SHARE / share for share in speed.SHARES)
        return replace(
            cost,
            gpu_hours=steps * layout.world_size / 3600,
            at=f"{speed.MATRIX_SHARE:.0%} of the peak of {gpu.name}, and communication",
            seconds=Span(low + beside, steps + beside, high + beside),
            num_gpus=layout.world_size,
        )

    def suggest(self, cfg: Config, model: ModelFacts, tokens: int) -> list[Suggestion]:
        """Of :func:`nemo_cot.training.nemo.suggest.candidates`."""
        found = []
        for layout in candidates(cfg, self.train.layout, model.shape) if model.shape else ():
            cost = type(self)(replace(self.train, layout=layout)).cost(cfg, model, tokens)
            whole = tokens / cfg.pack.capacity_tokens >= layout.data_parallel_size
            if whole and fits(layout, cost.memory_bytes):
                found.append(Suggestion(overrides(layout, self.train.layout), cost))
        return sorted(found, key=lambda one: (one.cost.gpu_hours or 0.0, one.cost.num_gpus))

    def memory(self, shape: ModelShape, pack_tokens: int) -> GpuMemory:
        """Of the fullest GPU."""
        return gpu_memory(shape, self.train.layout, self.train.lora, pack_tokens)

    def host_bytes(self, shape: ModelShape) -> float | None:
        """Memory of a node that the optimizer takes; None where it takes none."""
        return None

    def seconds_per_job(self, cfg: Config) -> int | None:
        """train.max_time_per_run, which both backends count from their first step; the start before, a save behind."""
        saves = saves_of(self.train, cfg.model.shape) if cfg.model.shape else None
        save = saves.seconds / saves.count if saves else 0.0
        return round(seconds_of(self.train.max_time_per_run) + speed.START_SECONDS + save)

    def in_container(self, recipe: str, srun_options: Sequence[str] | None) -> list[str]:
        """train.srun_arguments: srun's own for the training, unless the user named some; none for a conversion."""
        if recipe in ("hf_to_nemo", "nemo_to_hf"):
            return ["train.srun_arguments=[]"]  # it is in the container already
        if srun_options is None or self.train.srun_arguments:
            return []
        return [f"train.srun_arguments=[{','.join(map(hydra_quoted, srun_options))}]"]

    def size(self, resources: ResourceClasses) -> tuple[int, int | None]:
        """The layout's."""
        layout, own = self.train.layout, resources.train
        for name, ours, theirs in (
            ("nodes", own.nodes, layout.num_nodes),
            ("gpus_per_node", own.gpus_per_node, layout.gpus_per_node),
        ):
            if ours not in (None, theirs):
                key = f"cluster.resources.train.{name}"
                raise UserError(f"{ours} here and {theirs} in train.layout", where=key, fix=f"set {key}=null")
        return layout.num_nodes, layout.gpus_per_node
