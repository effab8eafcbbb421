"""nemo_to_hf: the trained model of a NeMo backend as a Hugging Face directory. Run it in the container."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.io.paths import user_path
from nemo_cot.models.average import average_models
from nemo_cot.models.format import base_model
from nemo_cot.training.nemo_aligner import conversion
from nemo_cot.training.nemo_aligner.command import single_process
from nemo_cot.training.nemo_rl.conversion import megatron_lora_to_hf, megatron_to_hf
from nemo_cot.training.nemo.checkpoints import (
    megatron_base,
    megatron_folder,
    saved_steps,
    steps_to_convert,
    unpacked_view,
)
from nemo_cot.training.nemo.command import Command, check_importable, run_command
from nemo_cot.training.nemo.config import NemoTrain
from nemo_cot.training.nemo_aligner.config import AlignerTrain
from nemo_cot.training.nemo_rl.config import NemoRlTrain
from nemo_cot.training.nemo.converted import finish_hf_directory
from nemo_cot.training.nemo_rl.command import check_source_tree, rl_environment
from nemo_cot.progress import track
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.stages.publish import SCRATCH
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.recipes.train import nemo_base


def nemo_to_hf(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Write model/ (weights, config, tokenizer): of the last step, or the mean of several steps."""
    if not isinstance(cfg.train, NemoTrain):
        return
    settings, base = cfg.train, base_model(cfg.model, run)
    trained = run.artifact("train", "trained.json")

    def work(folder: Path) -> None:
        saved = saved_steps(settings, trained.parent)
        steps = steps_to_convert(settings, list(saved))
        models = []
        with track("convert checkpoints", len(steps), "checkpoints", folder) as tracker:
            for number, step in enumerate(steps, start=1):
                target = folder / SCRATCH / f"step_{step}"
                if not target.is_dir():  # a former attempt has converted it
                    _convert(cfg, run, saved[step], target)
                models.append(target)
                tracker.update(number)
        shutil.rmtree(folder / "model", ignore_errors=True)
        if len(models) == 1:
            models[0].rename(folder / "model")
        else:
            _average(cfg, run, models, folder / "model")
        finish_hf_directory(folder / "model", base)

    yield Stage(
        "nemo_to_hf",
        inputs={"base": base, "trained": trained},
        config={"conversion": fingerprinted(settings.conversion)},
        work=work,
        resumable=True,
    )


def _convert(cfg: Config, run: RunDirectory, checkpoint: Path, target: Path) -> None:
    """Convert one checkpoint; ``target`` is there only when it is whole."""
    unfinished = target.with_name(f".{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    base = base_model(cfg.model, run).resolve()
    if isinstance(cfg.train, AlignerTrain):
        _from_aligner(cfg.train, run, checkpoint, base, unfinished)
    else:
        _from_nemo_rl(cfg.train, run, checkpoint, base, unfinished)
    finish_hf_directory(unfinished, base)
    unfinished.rename(target)


def _average(cfg: Config, run: RunDirectory, models: list[Path], target: Path) -> None:
    """In the Python that trained: this one may be the light core's, without torch."""
    if isinstance(cfg.train, AlignerTrain):
        average_models(models, target, python=[*single_process(cfg.train, os.environ), cfg.train.python])
    elif isinstance(cfg.train, NemoRlTrain):
        average_models(
            models,
            target,
            python=["uv", "run", "python", "-P"],  # -P: the program's folder stays off the path
            environment={**os.environ, **rl_environment(run.stage("train"))},
            directory=user_path(cfg.train.nemo_rl_directory),
        )


def _from_aligner(train: AlignerTrain, run: RunDirectory, checkpoint: Path, base: Path, target: Path) -> None:
    family, prefix = conversion.family_of(base), single_process(train, os.environ)
    modules = ["nemo.collections.nlp", conversion.converters(family)[1]]
    check_importable(prefix, train.python, modules, stage="nemo_to_hf")
    view = unpacked_view(checkpoint, nemo_base(train, run), target.with_name(f".{target.name}.nemo"))
    argv = [*prefix, *conversion.nemo_to_hf(train.python, family, view, target, base=base)]
    run_command(Command(argv, {}), os.environ, stage="nemo_to_hf")
    shutil.rmtree(view)


def _from_nemo_rl(train: NemoRlTrain, run: RunDirectory, checkpoint: Path, base: Path, target: Path) -> None:
    directory = user_path(train.nemo_rl_directory)
    check_source_tree(directory, "nemo_to_hf")
    weights, stage = megatron_folder(checkpoint), run.stage("train")
    if train.lora.enabled:
        own_base = megatron_base(stage / "megatron_base")
        argv = megatron_lora_to_hf(weights, own_base, target, base=base)
    else:
        argv = megatron_to_hf(checkpoint, weights, target, base=base)
    run_command(Command(argv, rl_environment(stage), directory), os.environ, stage="nemo_to_hf")


if __name__ == "__main__":
    recipe_main(nemo_to_hf)
