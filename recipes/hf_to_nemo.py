"""hf_to_nemo: convert the base model to NeMo's format, for NeMo-Aligner. Run it in the training container."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.models.format import base_model
from nemo_cot.stages import Stage
from nemo_cot.training.nemo.command import Command, check_importable, run_command, single_process
from nemo_cot.training.nemo.config import AlignerTrain
from nemo_cot.training.nemo.conversion import converters, family_of
from nemo_cot.training.nemo.conversion import hf_to_nemo as conversion_command
from nemo_cot.training.nemo.converted import check_nemo_folder


def hf_to_nemo(cfg: Config) -> Iterator[Stage]:
    """Write model/, an unpacked NeMo model; nothing to do for another trainer, or with train.nemo_model."""
    settings = cfg.train
    if not isinstance(settings, AlignerTrain) or settings.nemo_model is not None:
        return

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        base, target = inputs["model"], folder / "model"
        family, prefix = family_of(base), single_process(settings, os.environ)
        modules = ["nemo.collections.nlp", converters(family)[0]]
        check_importable(prefix, settings.python, modules, stage="hf_to_nemo")
        command = [*prefix, *conversion_command(settings.python, family, base, target)]
        run_command(Command(command, {}), os.environ, stage="hf_to_nemo")
        check_nemo_folder(target, base)

    yield Stage(
        "hf_to_nemo",
        inputs={"model": base_model(cfg.model)},
        config={"format": "zarr", "precision": "bf16"},
        work=work,
        writes=("model",),
        resources="conversion",
    )


if __name__ == "__main__":
    recipe_main(hf_to_nemo)
