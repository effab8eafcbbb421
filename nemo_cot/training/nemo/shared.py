"""What the rest of the program is told alike of both NeMo backends."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from nemo_cot.config import Config, h100
from nemo_cot.config.cluster import ResourceClasses
from nemo_cot.errors import UserError
from nemo_cot.models.facts import ModelFacts
from nemo_cot.training.backend import Backend, TrainingCost
from nemo_cot.training.nemo.config import NemoTrain, seconds_of
from nemo_cot.training.nemo.memory import adapter_parameters, gpu_memory

UTILISATION = 0.4
"""Share of the peak that Megatron-LM's own tables show for models of this size on H100; assumed, not measured."""

N = TypeVar("N", bound=NemoTrain)


class NemoBackend(Backend[N]):
    """Megatron training of ``train.layout``, whose checkpoints a stage of its own converts back."""

    trained_by = "nemo_to_hf"
    several_nodes = True
    cuts_at_eos = True

    @property
    def fewer_checkpoints(self) -> str:  # type: ignore[override]
        """LoRA's are small."""
        return "" if self.train.lora.enabled else "lower train.save_top_k"

    def cost(self, cfg: Config, model: ModelFacts, tokens: int) -> TrainingCost:
        """On the fullest GPU, at UTILISATION of an H100's dense bf16 peak; start-up and saving take more.

        Adapters (LoRA, arXiv 2106.09685) leave the base weights as they are, whose gradients are not
        computed: 4 x parameters + 6 x the adapters' own. Full activation checkpointing computes the forward
        pass (2 x parameters) twice. On disk are the converted base, and checkpoints of 14 bytes per
        parameter with the optimizer's state: save_top_k and the last; LoRA's are small.
        """
        cost, train = super().cost(cfg, model, tokens), self.train
        shape, count = model.shape, model.parameters
        if count is None or cost.operations is None:
            return replace(cost, place="the fullest GPU")
        in_all = tokens * train.max_steps
        operations, formula = cost.operations, cost.formula
        if train.lora.enabled:
            adapters = shape.layers * adapter_parameters(shape, train.lora) if shape else 0
            operations = (4.0 * count + 6.0 * adapters) * in_all
            formula = "(4 x parameters + 6 x adapters) x tokens"
        again = 2.0 * count * in_all if train.layout.checkpoint_activations == "full" else 0.0
        kept = 0 if train.lora.enabled else 14 * (train.save_top_k + 1)
        copies = train.layout.world_size % train.layout.model_parallel_size == 0  # else rule nemo_copies
        return TrainingCost(
            model=model,
            operations=operations,
            formula=formula,
            memory_bytes=gpu_memory(shape, train.layout, train.lora, cfg.pack.capacity_tokens).total
            if shape and copies
            else None,
            place="the fullest GPU",
            disk_bytes=count * (2 + 2 + 2 + kept),
            gpu_hours=(operations + again) / (UTILISATION * h100.BF16_FLOPS) / 3600,
            at=f"{UTILISATION:.0%} of an H100's peak",
        )

    def seconds_per_job(self) -> int | None:
        """train.max_time_per_run."""
        return seconds_of(self.train.max_time_per_run)

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
