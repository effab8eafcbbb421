"""nemo_to_hf: the trained model of a NeMo backend as a Hugging Face directory. Run it in the container."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.paths import user_path
from nemo_cot.models.average import average_models
from nemo_cot.models.format import base_model
from nemo_cot.progress import track
from nemo_cot.stages import Output, Stage
from nemo_cot.stages.publish import SCRATCH
from nemo_cot.training.nemo import conversion
from nemo_cot.training.nemo.checkpoints import (
    megatron_base,
    megatron_folder,
    saved_steps,
    steps_to_convert,
    unpacked_view,
)
from nemo_cot.training.nemo.command import Command, check_importable, run_command, single_process
from nemo_cot.training.nemo.config import AlignerTrain, NemoRlTrain, NemoTrain
from nemo_cot.training.nemo.conversion import nemo_base
from nemo_cot.training.nemo.converted import finish_hf_directory
from nemo_cot.training.nemo_rl.command import check_source_tree, rl_environment


def nemo_to_hf(cfg: Config) -> Iterator[Stage]:
    """Write model/ (weights, config, tokenizer): of the last step, or the mean of several steps."""
    settings = cfg.train
    if not isinstance(settings, NemoTrain):
        return

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        saved = saved_steps(settings, inputs["trained"].parent)
        steps = steps_to_convert(settings, list(saved))
        models = []
        with track("convert checkpoints", len(steps), "checkpoints", folder) as tracker:
            for number, step in enumerate(steps, start=1):
                target = folder / SCRATCH / f"step_{step}"
                if not target.is_dir():  # a former attempt has converted it
                    _convert(settings, inputs, saved[step], target)
                models.append(target)
                tracker.update(number)
        shutil.rmtree(folder / "model", ignore_errors=True)
        if len(models) == 1:
            models[0].rename(folder / "model")
        else:
            _average(settings, inputs, models, folder / "model")
        finish_hf_directory(folder / "model", inputs["base"])

    yield Stage(
        "nemo_to_hf",
        inputs={"base": base_model(cfg.model), "trained": Output("train", "trained.json")},
        config={"conversion": fingerprinted(settings.conversion)},
        work=work,
        writes=("model",),
        resumable=True,
        parts={"nemo_base": nemo_base(settings)} if isinstance(settings, AlignerTrain) else {},
        resources="conversion",
    )


def _convert(train: NemoTrain, inputs: Mapping[str, Path], checkpoint: Path, target: Path) -> None:
    """Convert one checkpoint; ``target`` is there only when it is whole."""
    unfinished = target.with_name(f".{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    base = inputs["base"].resolve()
    if isinstance(train, AlignerTrain):
        _from_aligner(train, inputs["nemo_base"], checkpoint, base, unfinished)
    else:
        _from_nemo_rl(train, inputs["trained"].parent, checkpoint, base, unfinished)
    finish_hf_directory(unfinished, base)
    unfinished.rename(target)


def _average(train: NemoTrain, inputs: Mapping[str, Path], models: list[Path], target: Path) -> None:
    """In the Python that trained: this one may be the light core's, without torch."""
    if isinstance(train, AlignerTrain):
        average_models(models, target, python=[*single_process(train, os.environ), train.python])
    elif isinstance(train, NemoRlTrain):
        average_models(
            models,
            target,
            python=["uv", "run", "python", "-P"],  # -P: the program's folder stays off the path
            environment={**os.environ, **rl_environment(inputs["trained"].parent)},
            directory=user_path(train.nemo_rl_directory),
        )


def _from_aligner(train: AlignerTrain, nemo: Path, checkpoint: Path, base: Path, target: Path) -> None:
    family, prefix = conversion.family_of(base), single_process(train, os.environ)
    modules = ["nemo.collections.nlp", conversion.converters(family)[1]]
    check_importable(prefix, train.python, modules, stage="nemo_to_hf")
    view = unpacked_view(checkpoint, nemo, target.with_name(f".{target.name}.nemo"))
    argv = [*prefix, *conversion.nemo_to_hf(train.python, family, view, target, base=base)]
    run_command(Command(argv, {}), os.environ, stage="nemo_to_hf")
    shutil.rmtree(view)


def _from_nemo_rl(train: NemoRlTrain, stage: Path, checkpoint: Path, base: Path, target: Path) -> None:
    directory = user_path(train.nemo_rl_directory)
    check_source_tree(directory, "nemo_to_hf")
    weights = megatron_folder(checkpoint)
    if train.lora.enabled:
        own_base = megatron_base(stage / "megatron_base")
        argv = conversion.megatron_lora_to_hf(weights, own_base, target, base=base)
    else:
        argv = conversion.megatron_to_hf(checkpoint, weights, target, base=base)
    run_command(Command(argv, rl_environment(stage), directory), os.environ, stage="nemo_to_hf")


if __name__ == "__main__":
    recipe_main(nemo_to_hf)
