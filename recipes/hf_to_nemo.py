"""hf_to_nemo: convert the base model to NeMo's format, for NeMo-Aligner. Run it in the training container."""

import os
from collections.abc import Iterator
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.models.format import base_model
from nemo_cot.training.nemo.command import Command, check_importable, run_command
from nemo_cot.training.nemo_aligner.command import single_process
from nemo_cot.training.nemo_aligner.config import AlignerTrain
from nemo_cot.training.nemo_aligner.conversion import converters, family_of
from nemo_cot.training.nemo_aligner.conversion import hf_to_nemo as conversion_command
from nemo_cot.training.nemo.converted import check_nemo_folder
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.experiment.recipe import recipe_main


def hf_to_nemo(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Write model/, an unpacked NeMo model; nothing to do for another trainer, or with train.nemo_model."""
    if not isinstance(cfg.train, AlignerTrain) or cfg.train.nemo_model is not None:
        return
    settings, base = cfg.train, base_model(cfg.model, run)
    yield Stage(
        "hf_to_nemo",
        inputs={"model": base},
        config={"format": "zarr", "precision": "bf16"},
        work=lambda folder: _convert(settings, base, folder / "model"),
    )


def _convert(settings: AlignerTrain, base: Path, target: Path) -> None:
    family, prefix = family_of(base), single_process(settings, os.environ)
    check_importable(
        prefix, settings.python, ["nemo.collections.nlp", converters(family)[0]], stage="hf_to_nemo"
    )
    command = [*prefix, *conversion_command(settings.python, family, base, target)]
    run_command(Command(command, {}), os.environ, stage="hf_to_nemo")
    check_nemo_folder(target, base)


if __name__ == "__main__":
    recipe_main(hf_to_nemo)
