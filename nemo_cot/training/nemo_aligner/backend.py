"""train=nemo_aligner for the rest of the program: its three stages, and what they need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.config.model import ModelShape
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.models.average import average_models
from nemo_cot.models.format import base_model
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.stages import Output, Source, Stage
from nemo_cot.training.nemo import shared
from nemo_cot.training.nemo.command import Command, check_importable, run_command
from nemo_cot.training.nemo.converted import check_nemo_folder
from nemo_cot.training.nemo.keys import read_keys
from nemo_cot.training.nemo.saves import STATE, trained_parameters
from nemo_cot.training.nemo_aligner import conversion
from nemo_cot.training.nemo_aligner.checkpoints import LOG_DIR, link_newest, saved_steps, unpacked_view
from nemo_cot.training.nemo_aligner.command import aligner_command, single_process
from nemo_cot.training.nemo_aligner.config import AlignerTrain
from nemo_cot.training.nemo_aligner.render import OURS
from nemo_cot.training.nemo_aligner.rules import ALIGNER_RULES


class AlignerBackend(shared.NemoBackend[AlignerTrain]):
    """NeMo-Aligner 0.7.0. It trains from NeMo's own format, and its checkpoints are converted back."""

    rules = ALIGNER_RULES
    image = "nemo-aligner"
    keys = read_keys(Path(__file__).with_name("keys.txt"), OURS)
    log_dir = LOG_DIR
    saved_steps = staticmethod(saved_steps)

    @property
    def nemo_base(self) -> Source:
        """The base model in NeMo's format: the one that is named, or what the stage hf_to_nemo converts."""
        return user_path(self.train.nemo_model) if self.train.nemo_model else Output("hf_to_nemo", "model")

    def base_stage(self, cfg: Config) -> Stage | None:
        """Write model/, an unpacked NeMo model; nothing to do with train.nemo_model."""
        train = self.train

        def work(folder: Path, inputs: Mapping[str, Path]) -> None:
            base, target = inputs["model"], folder / "model"
            family, prefix = conversion.family_of(base), single_process(train, os.environ)
            modules = ["nemo.collections.nlp", conversion.converters(family)[0]]
            check_importable(prefix, train.python, modules, stage="hf_to_nemo")
            argv = [*prefix, *conversion.hf_to_nemo(train.python, family, base, target)]
            run_command(Command(argv, {}), os.environ, stage="hf_to_nemo")
            check_nemo_folder(target, base)

        if train.nemo_model:
            return None
        return Stage(
            "hf_to_nemo",
            inputs={"model": base_model(cfg.model)},
            config={"format": "zarr", "precision": "bf16"},
            work=work,
            writes=("model",),
            resources="conversion",
        )

    def train_stage(self, cfg: Config) -> Stage:
        """Write train.npy, packing.json, aligner.yaml, command.json and aligner/ (NeMo's logs and checkpoints)."""
        train = self.train

        def work(folder: Path, inputs: Mapping[str, Path]) -> None:
            from nemo_cot.training.nemo_aligner.packed_file import Layout
            from nemo_cot.training.nemo_aligner.prepare import CONFIG_FILE, prepare_aligner

            ids = msgspec.json.decode(inputs["tokens"].read_bytes())
            context = train.layout.context_parallel_size
            layout = Layout(cfg.pack.capacity_tokens, ids["eos_id"], ids["end_of_turn_id"], context)
            rows = read_jsonl(inputs["sequences"], TokenSequence)
            report = prepare_aligner(train, cfg.pack, rows, layout, folder, cfg.name, inputs["base"])
            print(report.line(), flush=True)
            link_newest(folder)
            self.run(aligner_command(train, folder / CONFIG_FILE, os.environ), folder)

        inputs = {
            "base": self.nemo_base,
            "sequences": Output("pack", "sequences.jsonl"),
            "tokens": Output("convert", "model.json"),
        }
        return self.stage(cfg, inputs, {}, work)

    def export_parts(self) -> dict[str, Source]:
        """NeMo's description of the base model."""
        return {"nemo_base": self.nemo_base}

    def to_hugging_face(self, checkpoint: Path, inputs: Mapping[str, Path], base: Path, target: Path) -> None:
        """By NeMo-Skills' script, from the checkpoint in the form of an unpacked .nemo folder."""
        train, family = self.train, conversion.family_of(base)
        prefix = single_process(train, os.environ)
        modules = ["nemo.collections.nlp", conversion.converters(family)[1]]
        check_importable(prefix, train.python, modules, stage="nemo_to_hf")
        view = unpacked_view(checkpoint, inputs["nemo_base"], target.with_name(f".{target.name}.nemo"))
        argv = [*prefix, *conversion.nemo_to_hf(train.python, family, view, target, base=base)]
        run_command(Command(argv, {}), os.environ, stage="nemo_to_hf")
        shutil.rmtree(view)

    def average(self, models: Sequence[Path], inputs: Mapping[str, Path], target: Path) -> None:
        """In the Python that trained."""
        python = [*single_process(self.train, os.environ), self.train.python]
        average_models(models, target, python=python)

    def host_bytes(self, shape: ModelShape) -> float:
        """Apex's distributed Adam builds the whole state of each rank's weights on the host before it deals it out.

        12 bytes per trained parameter of a model-parallel rank (read in Apex; 393 GB per node for a 32B model
        under TP 8), for as many ranks as a node has.
        """
        layout = self.train.layout
        ranks = layout.tensor_model_parallel_size * layout.pipeline_model_parallel_size
        return STATE * trained_parameters(self.train, shape) / ranks * layout.gpus_per_node

    def programs(self) -> dict[str, str]:
        """The interpreter that has NeMo."""
        return {"train.python": self.train.python}

    def paths(self) -> dict[str, str]:
        """The base model in NeMo's format, where one is named."""
        return {"train.nemo_model": self.train.nemo_model} if self.train.nemo_model else {}

    @property
    def started_by_srun(self) -> bool:
        """Its ranks, or a torchrun on each of several nodes."""
        return self.train.process_launcher == "srun" or self.train.layout.num_nodes > 1

    @property
    def task_per_gpu(self) -> bool:
        """With srun for the ranks themselves."""
        return self.train.process_launcher == "srun"


BACKEND = AlignerBackend
