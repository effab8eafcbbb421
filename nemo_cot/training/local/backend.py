"""train=local for the rest of the program: its stage, what it costs, and the rules that it is checked by."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.config.cluster import ResourceClasses
from nemo_cot.config.model import ModelShape
from nemo_cot.config.rule import GIB, KNOWN_LATER, Found, rule
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.models.export import finish_export
from nemo_cot.models.facts import ModelFacts
from nemo_cot.models.format import base_model
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.stages import Output, Stage
from nemo_cot.training.backend import Backend, TrainingCost, checkpoint_folder
from nemo_cot.training.local.config import LocalTrain
from nemo_cot.training.local.loggers import LOGGERS
from nemo_cot.training.lora import adapter_dropout, adapter_parameters, with_adapters


@rule("train")
def literal_cost(cfg: Config, train: LocalTrain, _: TrainingCost) -> Found:
    """Repeated traces are computed once."""
    repeats = train.global_batch_size / cfg.curate.num_traces
    if train.batching == "literal" and repeats >= 2:
        yield (
            "warning",
            f"literal batching computes each trace {repeats:.0f} times per step",
            "train.batching=distinct gives the same gradient for that much less",
        )


@rule("train", of_machine=True)
def memory(cfg: Config, train: LocalTrain, cost: TrainingCost) -> Found:
    """Training fits the machine's memory."""
    on_gpu = train.device == "cuda" or (train.device == "auto" and Path("/dev/nvidia0").exists())
    needed = cost.memory_bytes
    if on_gpu or needed is None:
        yield "unknown", "the GPU's memory is not looked at" if on_gpu else KNOWN_LATER, ""
        return
    available = memory_limit()
    if needed > available:
        yield (
            "error",
            f"training needs about {needed / GIB:.1f} GiB, the machine has {available / GIB:.1f} GiB",
            "use a smaller model, a smaller pack.capacity_tokens, or train.activation_checkpointing=true",
        )


class LocalBackend(Backend[LocalTrain]):
    """Packed SFT on transformers, in the recipe's own process."""

    rules = (literal_cost, adapter_dropout, memory)
    num_gpus = 1
    more_checkpoints = "train.keep_checkpoints=true, with train.save_interval_steps below train.max_steps"

    def train_stage(self, cfg: Config) -> Stage:
        """Write model/ (Hugging Face), metrics.jsonl (per step) and trace_losses.jsonl (per step and trace); with
        train.keep_checkpoints checkpoints/step-N, alike.
        """
        train, steps = self.train, self.checkpoint_steps()

        def work(folder: Path, inputs: Mapping[str, Path]) -> None:
            from nemo_cot.training.local.trainer import MODEL
            from nemo_cot.training.local.trainer import train as run_training

            sequences = read_jsonl(inputs["sequences"], TokenSequence)
            run_training(inputs["base"], sequences, train, cfg.pack, folder)
            for name in (MODEL, *(checkpoint_folder(step) for step in steps)):
                finish_export(folder / name, inputs["base"], cfg.model)

        kept = {"checkpoints": steps} if steps else {}
        return Stage(
            "train",
            inputs={"base": base_model(cfg.model), "sequences": Output("pack", "sequences.jsonl")},
            config={"train": fingerprinted(train), "pack": fingerprinted(cfg.pack), **kept},
            settings={"device": train.device, "save_interval_steps": train.save_interval_steps},
            work=work,
            writes=("model", "metrics.jsonl", "trace_losses.jsonl", *kept),
            resumable=True,
            resources="train",
        )

    def checkpoint_steps(self) -> list[int]:
        """Every save_interval_steps, where they are kept."""
        train = self.train
        every = range(train.save_interval_steps, train.max_steps, train.save_interval_steps)
        return list(every) if train.keep_checkpoints else []

    @property
    def packages(self) -> dict[str, str]:  # type: ignore[override]
        """torch, transformers, and what the loggers and adapters that are chosen need."""
        chosen = {name: extra for name, extra in LOGGERS.items() if getattr(self.train.loggers, name)}
        found = dict.fromkeys(("torch", "transformers"), "local") | chosen
        if self.train.lora.enabled:
            found["peft"] = "local"
        return {name: f"-e '.[{extra}]' in the clone" for name, extra in found.items()}

    def cost(self, cfg: Config, model: ModelFacts, tokens: int) -> TrainingCost:
        """With the memory of the longest pack: :func:`train_bytes`."""
        cost = with_adapters(super().cost(cfg, model, tokens), self.train, tokens)
        if model.shape is None or model.parameters is None:
            return cost
        longest = min(tokens, cfg.pack.capacity_tokens)
        width = 4 if self.train.export_dtype == "float32" else 2
        kept = width * model.parameters * (1 + len(self.checkpoint_steps()))
        cost = replace(cost, disk={**(cost.disk or {}), "train": kept})
        return replace(cost, memory_bytes=train_bytes(model.shape, model.parameters, self.train, longest))

    def size(self, resources: ResourceClasses) -> tuple[int, int | None]:
        """The profile's number of GPUs; else the one that it can use, where the profile asks for GPUs elsewhere."""
        nodes, gpus = super().size(resources)
        kinds = (getattr(resources, f.name) for f in fields(resources))
        if gpus is None and self.train.device != "cpu" and any(kind.gpus_per_node for kind in kinds):
            gpus = 1
        return nodes, gpus


BACKEND = LocalBackend


def train_bytes(shape: ModelShape, parameters: int, train: LocalTrain, pack_tokens: int) -> int:
    """Peak memory, bytes: state, activations of one pack, one chunk of logits; with adapters that, or what their
    merging takes.

    State per parameter: 4 master + 4 gradient + 8 AdamW, and 2 (weight) + at most 2 (gradient in
    flight) in bf16. Activations per token and layer, in elements: about 10 x hidden (residual
    stream, norms with their float32 copies, projections) + 4 x intermediate + 6 x key-value width
    (after Korthikanti et al., arXiv 2205.05198, for gated MLPs without dropout). With activation
    checkpointing one layer's activations and every layer's input are kept.
    """
    low = train.precision == "bf16"
    trained = shape.layers * adapter_parameters(shape, train.lora) if train.lora.enabled else parameters
    state = trained * (16 + (4 if low else 0))
    frozen = parameters * (2 if low else 4) if train.lora.enabled else 0
    width = 2 if low else 4
    layer = pack_tokens * (
        width * (6 * shape.hidden + 4 * shape.intermediate + 6 * shape.kv_width) + 4 * 4 * shape.hidden
    )
    kept = (
        layer + shape.layers * pack_tokens * shape.hidden * width
        if train.activation_checkpointing
        else shape.layers * layer
    )
    logits = 256 * shape.vocabulary * (4 + 4 + width) + 4 * shape.vocabulary * shape.hidden
    merging = 4 * parameters if train.lora.enabled else 0
    return state + frozen + max(kept + logits, merging) + 2**29  # interpreter and libraries


def memory_limit() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control groups, or no limit ("max")
        return machine
