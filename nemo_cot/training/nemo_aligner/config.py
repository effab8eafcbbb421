"""The keys of train=nemo_aligner. Values: conf/train/nemo_aligner.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from nemo_cot.config.checks import between, one_of, runtime
from nemo_cot.training.nemo.config import NemoTrain


@dataclass
class AlignerTrain(NemoTrain):
    """NeMo-Aligner 0.7.0. ``nemo_model``: the base model in NeMo's format, as a folder or a .nemo
    file; null: what the stage hf_to_nemo converts.

    ``process_launcher``: torchrun (one launcher a node) or srun (one task a GPU). Inside a Slurm job
    srun starts both on several nodes. ``python``: the container's interpreter. ``master_port`` null: one of
    the Slurm job's own, 29500 outside of a job.
    """

    megatron_amp_O2: bool
    nemo_model: Optional[str] = runtime()  # noqa: UP045 (the stage hashes it)
    process_launcher: str = runtime()
    master_port: Optional[int] = runtime()  # noqa: UP045
    python: str = runtime()

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("train.process_launcher", self.process_launcher, ("torchrun", "srun"))
        if self.master_port is not None:
            between("train.master_port", self.master_port, 1024, 65535)

    @property
    def own_objective(self) -> str:
        """Mean over the tokens of each pack, then over the packs; see docs/packing.md."""
        return "pack_mean"

    @property
    def width_multiple(self) -> int:
        """Of a batch (NeMo-Aligner's build_sft_dataset)."""
        layout = self.layout
        per_rank = 8 * layout.tensor_model_parallel_size if layout.sequence_parallel else 16
        return per_rank * layout.context_parallel_size


SCHEMA = AlignerTrain
