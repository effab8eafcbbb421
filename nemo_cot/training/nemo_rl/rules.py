"""Rules for train=nemo_rl. docs/nemo.md says which trap each is for."""

from __future__ import annotations

from nemo_cot.config import Config
from nemo_cot.config.cluster import bytes_of_memory
from nemo_cot.config.rule import GIB, Found
from nemo_cot.training.backend import TrainingCost
from nemo_cot.training.nemo.rules import NEMO_RULES, nemo_rule
from nemo_cot.training.nemo_rl.config import NemoRlTrain


@nemo_rule
def nemo_batch_ranks(cfg: Config, train: NemoRlTrain, _: TrainingCost) -> Found:
    """The global batch goes round the data-parallel ranks evenly."""
    ranks, left = divmod(train.layout.world_size, train.layout.model_parallel_size)
    each = train.micro_batch_size * ranks
    if not left and train.global_batch_size % each:  # else nemo_copies says so
        yield (
            "error",
            f"{train.global_batch_size} sequences do not divide among {ranks} ranks "
            f"in micro batches of {train.micro_batch_size}",
            f"set train.global_batch_size to a multiple of {each}",
        )


@nemo_rule
def nemo_loss_weights(cfg: Config, train: NemoRlTrain, _: TrainingCost) -> Found:
    """Every trained token counts as much as it is meant to."""
    if train.batching == "distinct":
        yield "error", "NeMo-RL gives every row the weight 1", "set train.batching=literal"


@nemo_rule
def nemo_offload(cfg: Config, train: NemoRlTrain, cost: TrainingCost) -> Found:
    """An optimizer that is kept in host memory can be, and fits it."""
    if not train.optimizer_cpu_offload:
        return
    if not train.layout.distributed_optimizer:
        yield (
            "error",
            "Megatron keeps the state of its distributed optimizer alone in host memory",
            "set train.layout.distributed_optimizer=true, or train.optimizer_cpu_offload=false",
        )
    asked = cfg.cluster.slurm and bytes_of_memory(cfg.cluster.slurm.resources.train.memory)
    if asked and cost.host_bytes and cost.host_bytes > asked:
        yield (
            "error",
            f"the optimizer takes {cost.host_bytes / GIB:.0f} GiB of a node's memory, the job asks for {asked / GIB:.0f}",
            'set cluster.resources.train.memory="0" (all of the node) or more, or raise train.layout.num_nodes',
        )


@nemo_rule
def nemo_ray_neighbours(cfg: Config, train: NemoRlTrain, _: TrainingCost) -> Found:
    """No other job's Ray finds ours on its node."""
    if cfg.cluster.slurm and not cfg.cluster.slurm.exclusive:
        yield (
            "error",
            "another job on the node that looks for Ray, as NeMo-RL does, would join this training's cluster "
            "and take its GPUs",
            "set cluster.exclusive=true",
        )


NEMO_RL_RULES = (*NEMO_RULES, nemo_batch_ranks, nemo_loss_weights, nemo_offload, nemo_ray_neighbours)
