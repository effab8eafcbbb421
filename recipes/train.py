"""train: packed SFT of the base model on the curated traces."""

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from nemo_cot.config import Config, LocalTrain
from nemo_cot.config.checks import fingerprinted
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.models.format import base_model, format_config, student_tokenizer
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.records import Trace
from nemo_cot.stages import Output, Source, Stage
from nemo_cot.training.nemo.checkpoints import LOG_DIRS, check_finished
from nemo_cot.training.nemo.command import Command, aligner_command, run_command
from nemo_cot.training.nemo.config import AlignerTrain, NemoRlTrain, NemoTrain
from nemo_cot.training.nemo.conversion import nemo_base


def train(cfg: Config) -> Iterator[Stage]:
    """Train with the backend that train.backend names: local writes model/ and metrics.jsonl."""
    if isinstance(cfg.train, LocalTrain):
        yield _local(cfg, cfg.train)
    elif isinstance(cfg.train, AlignerTrain):
        yield _aligner(cfg, cfg.train)
    elif isinstance(cfg.train, NemoRlTrain):
        yield _nemo_rl(cfg, cfg.train)


def _local(cfg: Config, settings: LocalTrain) -> Stage:
    """Write model/ (Hugging Face) and metrics.jsonl (a row per step)."""

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        from nemo_cot.training.local.trainer import train as run_training

        sequences = read_jsonl(inputs["sequences"], TokenSequence)
        run_training(inputs["base"], sequences, settings, cfg.pack, folder)

    return Stage(
        "train",
        inputs={"base": base_model(cfg.model), "sequences": Output("pack", "sequences.jsonl")},
        config={"train": fingerprinted(settings), "pack": fingerprinted(cfg.pack)},
        settings={"device": settings.device, "save_interval_steps": settings.save_interval_steps},
        work=work,
        writes=("model", "metrics.jsonl"),
        resumable=True,
        resources="train",
    )


def _aligner(cfg: Config, settings: AlignerTrain) -> Stage:
    """Write train.npy, packing.json, aligner.yaml, command.json and aligner/ (NeMo's logs and checkpoints)."""

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        from nemo_cot.training.nemo_aligner.packed_file import Layout
        from nemo_cot.training.nemo_aligner.prepare import CONFIG_FILE, prepare_aligner

        ids = msgspec.json.decode(inputs["tokens"].read_bytes())
        layout = Layout(
            cfg.pack.capacity_tokens,
            ids["eos_id"],
            ids["end_of_turn_id"],
            settings.layout.context_parallel_size,
        )
        rows = read_jsonl(inputs["sequences"], TokenSequence)
        report = prepare_aligner(settings, cfg.pack, rows, layout, folder, cfg.name, inputs["base"])
        print(report.line(), flush=True)
        _run(settings, aligner_command(settings, folder / CONFIG_FILE, os.environ), folder)

    inputs = {
        "base": nemo_base(settings),
        "sequences": Output("pack", "sequences.jsonl"),
        "tokens": Output("convert", "model.json"),
    }
    return _nemo_stage(cfg, settings, inputs, {}, work)


def _nemo_rl(cfg: Config, settings: NemoRlTrain) -> Stage:
    """Write train.jsonl, tokens.jsonl, nemo_rl.yaml, command.json and nemo_rl/ (logs and checkpoints)."""

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        from nemo_cot.training.nemo_rl import data as rl_data
        from nemo_cot.training.nemo_rl.command import check_command, rl_command
        from nemo_cot.training.nemo_rl.render import RlInputs

        base, config = inputs["base"].resolve(), folder / rl_data.CONFIG_FILE
        command = rl_command(settings, config, folder, os.environ)
        log_dir = folder / LOG_DIRS[settings.backend]
        rl_data.prepare_rl(
            settings,
            cfg.pack,
            read_jsonl(inputs["traces"], Trace),
            read_jsonl(inputs["sequences"], TokenSequence),
            student_tokenizer(cfg.model, base),
            folder,
            RlInputs(str(base), str(folder / rl_data.TRAIN_FILE), str(log_dir), cfg.name),
        )
        run_command(check_command(settings, config, folder / rl_data.EXPECTED_FILE, folder), os.environ)
        _run(settings, command, folder)

    inputs = {
        "base": base_model(cfg.model),
        "traces": Output("curate", "traces.jsonl"),
        "sequences": Output("pack", "sequences.jsonl"),
    }
    return _nemo_stage(cfg, settings, inputs, {"model": format_config(cfg.model)}, work)


def _nemo_stage(cfg: Config, settings: NemoTrain, inputs: Mapping[str, Source], more: dict, work) -> Stage:
    """Run it inside the training container.

    A run that was cut short, by its time limit or a kill, goes on from the last checkpoint when
    the same command is given again.
    """
    return Stage(
        "train",
        inputs=inputs,
        config={"train": fingerprinted(settings), "pack": fingerprinted(cfg.pack), **more},
        settings={"save_interval_steps": settings.save_interval_steps},
        work=work,
        writes=("trained.json",),
        resumable=True,
        listed=(LOG_DIRS[settings.backend], "megatron_base"),
        resources="train",
    )


def _run(settings: NemoTrain, command: Command, folder: Path) -> None:
    """Train to the last step. trained.json, written last, stands for the weights where they are an input."""
    _write_json(folder / "command.json", {**command._asdict(), "directory": str(command.directory or "")})
    run_command(command, os.environ)
    steps = check_finished(settings, folder)
    checkpoints = {step: path.relative_to(folder).as_posix() for step, path in steps.items()}
    # The id is new at every training: two runs of one config end in different weights on GPUs.
    _write_json(folder / "trained.json", {"id": uuid.uuid4().hex, "checkpoints": checkpoints})


def _write_json(path: Path, value: dict) -> None:
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


if __name__ == "__main__":
    recipe_main(train)
