"""Rules for train=nemo_rl. docs/nemo.md says which trap each is for."""

from __future__ import annotations

from nemo_cot.config import Config
from nemo_cot.config.rule import Found
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
def nemo_ray(cfg: Config, train: NemoRlTrain, _: TrainingCost) -> Found:
    """NeMo-RL's nodes are one Ray cluster, which a submitted job does not start."""
    if train.layout.num_nodes > 1 and cfg.cluster.slurm:
        yield (
            "error",
            f"train.layout.num_nodes {train.layout.num_nodes}: a submitted job starts Ray on one node only",
            "set train.layout.num_nodes=1 (with a smaller model, or train.lora.enabled=true), or start a Ray "
            "cluster over the nodes by hand and run recipes/train.py there",
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


NEMO_RL_RULES = (*NEMO_RULES, nemo_batch_ranks, nemo_loss_weights, nemo_ray, nemo_ray_neighbours)
