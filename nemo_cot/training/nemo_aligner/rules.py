"""Rules for train=nemo_aligner. docs/nemo.md says which trap each is for."""

from __future__ import annotations

from nemo_cot.config import Config
from nemo_cot.config.rule import Found
from nemo_cot.errors import UserError
from nemo_cot.io.paths import user_path
from nemo_cot.traces.transforms import load_transforms
from nemo_cot.training.backend import TrainingCost, sequences_per_step
from nemo_cot.training.nemo.rules import NEMO_RULES, nemo_rule
from nemo_cot.training.nemo_aligner.config import AlignerTrain
from nemo_cot.training.nemo_aligner.conversion import TIED, family_of


@nemo_rule
def nemo_micro_batch(cfg: Config, train: AlignerTrain, _: TrainingCost) -> Found:
    """A micro batch is one pack."""
    if train.micro_batch_size != 1:
        yield (
            "error",
            f"a micro batch of {train.micro_batch_size}: packed rows go one at a time",
            "set train.micro_batch_size=1",
        )


@nemo_rule
def nemo_batch_ranks(cfg: Config, train: AlignerTrain, _: TrainingCost) -> Found:
    """Every data-parallel rank has a pack in every step."""
    layout, sequences = train.layout, sequences_per_step(cfg)
    ranks, left = divmod(layout.world_size, layout.model_parallel_size)
    if not left and sequences < ranks:  # else nemo_copies says so
        yield (
            "error",
            f"{sequences} sequences per step for {ranks} ranks: some would have no pack",
            "set train.batching=literal, raise train.global_batch_size, or lower train.layout.num_nodes",
        )


@nemo_rule
def nemo_end_of_turn(cfg: Config, train: AlignerTrain, _: TrainingCost) -> Found:
    """Every sequence ends in the end-of-turn token."""
    if any(not getattr(step, "end_of_turn", True) for _, step in load_transforms(cfg.transform.steps)):
        yield (
            "error",
            "transform.steps leaves out the end-of-turn token, in which every sequence of Aligner's packed file must end",
            "set end_of_turn: true in transform.steps, or use train=local or train=nemo_rl",
        )


@nemo_rule
def nemo_loss_weights(cfg: Config, train: AlignerTrain, _: TrainingCost) -> Found:
    """Every trained token counts as much as it is meant to."""
    if train.batching == "distinct" or cfg.pack.strategy not in ("shuffle", "in_order"):
        yield (
            "warning",
            f"Aligner's loss is the mean over each pack, then over packs: with {train.batching} batches and "
            f"pack.strategy={cfg.pack.strategy} the same traces always share a pack, and weigh unequally "
            "(docs/packing.md)",
            "set train.batching=literal and pack.strategy=shuffle",
        )


@nemo_rule
def nemo_model(cfg: Config, train: AlignerTrain, _: TrainingCost) -> Found:
    """The base model is there in NeMo's format, or is converted."""
    stages = cfg.launcher.stages
    if train.nemo_model is None and "train" in stages and "hf_to_nemo" not in stages:
        yield (
            "error",
            "no base model in NeMo's format, and no stage that converts it",
            "add hf_to_nemo to launcher.stages, or set train.nemo_model",
        )
    elif train.nemo_model is not None and not user_path(train.nemo_model).exists():
        yield (
            "warning",
            f"there is no {train.nemo_model} here",
            "correct train.nemo_model, unless the container mounts it there",
        )


@nemo_rule
def nemo_conversion(cfg: Config, train: AlignerTrain, cost: TrainingCost) -> Found:
    """The base model can be converted to NeMo's format, and the trained one back."""
    stages, model = cfg.launcher.stages, cost.model
    back = "nemo_to_hf" in stages
    if back and train.lora.enabled:
        yield (
            "error",
            "NeMo-Aligner saves adapters alone, and the converter does not merge them",
            "set train=nemo_rl for adapters, or take nemo_to_hf and the trained subject out "
            "(launcher.stages, evaluate.subjects=[base])",
        )
    if not back and (train.nemo_model is not None or "hf_to_nemo" not in stages):
        return
    if model.folder and model.config and "model_type" in model.config:
        try:
            family_of(model.folder)
        except UserError as error:
            yield "error", f"{error.where}: {error.what}", error.fix
    elif model.shape and model.shape.tied_embeddings:
        yield "error", *TIED


@nemo_rule
def nemo_o2(cfg: Config, train: AlignerTrain, _: TrainingCost) -> Found:
    """Weights are kept in the type that they are computed in."""
    if not train.megatron_amp_O2:
        yield (
            "warning",
            "without O2 the weights stay fp32 and are cast anew in each step: more memory than the estimate",
            "set train.megatron_amp_O2=true",
        )


ALIGNER_RULES = (
    *NEMO_RULES, nemo_micro_batch, nemo_batch_ranks, nemo_end_of_turn, nemo_loss_weights, nemo_model, nemo_conversion, nemo_o2
)  # fmt: skip
