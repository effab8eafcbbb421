"""train=nemo_rl for the rest of the program: its stages, and what they need."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.model import ModelShape
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.models.average import average_models
from nemo_cot.models.format import base_model, format_config, student_tokenizer
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.records import Trace
from nemo_cot.stages import Output, Stage
from nemo_cot.traces.transforms import chosen_traces
from nemo_cot.training.nemo import shared
from nemo_cot.training.nemo.command import Command, run_command
from nemo_cot.training.nemo.keys import read_keys
from nemo_cot.training.nemo.memory import GpuMemory
from nemo_cot.training.nemo.saves import STATE, trained_parameters
from nemo_cot.training.nemo_rl import conversion
from nemo_cot.training.nemo_rl.checkpoints import LOG_DIR, megatron_base, megatron_folder, saved_steps
from nemo_cot.training.nemo_rl.command import (
    MEGATRON_BASE,
    check_command,
    check_source_tree,
    rl_command,
    rl_environment,
)
from nemo_cot.training.nemo_rl.config import NemoRlTrain
from nemo_cot.training.nemo_rl.ray_cluster import is_ours, ray_cluster
from nemo_cot.training.nemo_rl.render import OURS
from nemo_cot.training.nemo_rl.rules import NEMO_RL_RULES


class NemoRlBackend(shared.NemoBackend[NemoRlTrain]):
    """NeMo-RL. It trains from a Hugging Face directory, and its own scripts convert its checkpoints back."""

    rules = NEMO_RL_RULES
    image = "nemo-rl"
    keys = read_keys(Path(__file__).with_name("keys.txt"), OURS)
    log_dir = LOG_DIR
    saved_steps = staticmethod(saved_steps)

    def train_stage(self, cfg: Config) -> Stage:
        """Write train.jsonl, tokens.jsonl, nemo_rl.yaml, command.json and nemo_rl/ (logs and checkpoints)."""
        train = self.train

        def work(folder: Path, inputs: Mapping[str, Path]) -> None:
            from nemo_cot.training.nemo_rl import data
            from nemo_cot.training.nemo_rl.render import RlInputs

            base, config = inputs["base"].resolve(), folder / data.CONFIG_FILE
            several = is_ours(train, os.environ)
            if not several:  # else srun finds it in the container
                check_source_tree(user_path(train.nemo_rl_directory), "train")
            check = check_command(train, config, folder / data.EXPECTED_FILE, folder)
            command = rl_command(train, config, folder, os.environ)
            data.prepare_rl(
                train,
                cfg.pack,
                read_jsonl(inputs["traces"], Trace),
                read_jsonl(inputs["sequences"], TokenSequence),
                student_tokenizer(cfg.model, base),
                folder,
                RlInputs(str(base), str(folder / data.TRAIN_FILE), str(folder / LOG_DIR), cfg.name),
            )
            if several:
                with ray_cluster(train, [check, command], folder, os.environ) as (on_head, others):
                    self.run(on_head, folder, others)
            else:
                run_command(check, os.environ)
                self.run(command, folder)

        inputs = {
            "base": base_model(cfg.model),
            "traces": chosen_traces(cfg),
            "sequences": Output("pack", "sequences.jsonl"),
        }
        return self.stage(cfg, inputs, {"model": format_config(cfg.model)}, work)

    @property
    def started_by_srun(self) -> bool:
        """On several nodes: Ray's processes, and the training beside the head's."""
        return self.train.layout.num_nodes > 1

    def memory(self, shape: ModelShape, pack_tokens: int) -> GpuMemory:
        """Without the optimizer's state, where that stays in host memory."""
        memory = super().memory(shape, pack_tokens)
        return replace(memory, optimizer=0.0) if self.train.optimizer_cpu_offload else memory

    def host_bytes(self, shape: ModelShape) -> float | None:
        """The optimizer's state of a node's ranks, where it stays there."""
        train, layout = self.train, self.train.layout
        if not train.optimizer_cpu_offload:
            return None
        return STATE * trained_parameters(train, shape) / layout.world_size * layout.gpus_per_node

    def to_hugging_face(self, checkpoint: Path, inputs: Mapping[str, Path], base: Path, target: Path) -> None:
        """By NeMo-RL's scripts, in its source tree; adapters are merged into its own copy of the base model."""
        directory, stage = user_path(self.train.nemo_rl_directory), inputs["trained"].parent
        check_source_tree(directory, "nemo_to_hf")
        weights = megatron_folder(checkpoint)
        if self.train.lora.enabled:
            own_base = megatron_base(stage / MEGATRON_BASE)
            argv = conversion.megatron_lora_to_hf(weights, own_base, target, base=base)
        else:
            argv = conversion.megatron_to_hf(checkpoint, weights, target, base=base)
        run_command(Command(argv, rl_environment(stage), directory), os.environ, stage="nemo_to_hf")

    def average(self, models: Sequence[Path], inputs: Mapping[str, Path], target: Path) -> None:
        """In NeMo-RL's own environment."""
        average_models(
            models,
            target,
            python=["uv", "run", "python", "-P"],  # -P: the program's folder stays off the path
            environment={**os.environ, **rl_environment(inputs["trained"].parent)},
            directory=user_path(self.train.nemo_rl_directory),
        )


BACKEND = NemoRlBackend
