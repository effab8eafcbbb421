"""train: packed SFT of the base model on the curated traces."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.training.local.config import LocalTrain
from nemo_cot.config.checks import fingerprinted
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.models.format import base_model, format_config, student_tokenizer
from nemo_cot.training.nemo.checkpoints import LOG_DIRS, check_finished
from nemo_cot.training.nemo.command import Command, run_command
from nemo_cot.training.nemo_aligner.command import aligner_command
from nemo_cot.training.nemo.config import NemoTrain
from nemo_cot.training.nemo_aligner.config import AlignerTrain
from nemo_cot.training.nemo_rl.config import NemoRlTrain
from nemo_cot.records import Trace
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.experiment.recipe import recipe_main


def train(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Train with the backend that train.backend names: local writes model/ and metrics.jsonl."""
    if isinstance(cfg.train, LocalTrain):
        yield _local(cfg, cfg.train, run)
    elif isinstance(cfg.train, AlignerTrain):
        yield _aligner(cfg, cfg.train, run)
    elif isinstance(cfg.train, NemoRlTrain):
        yield _nemo_rl(cfg, cfg.train, run)


def _local(cfg: Config, settings: LocalTrain, run: RunDirectory) -> Stage:
    """Write model/ (Hugging Face) and metrics.jsonl (a row a step)."""
    base = base_model(cfg.model, run)
    sequences = run.artifact("pack", "sequences.jsonl")

    def work(folder: Path) -> None:
        from nemo_cot.training.local.trainer import train as run_training

        run_training(base, read_jsonl(sequences, TokenSequence), settings, cfg.pack, folder)

    return Stage(
        "train",
        inputs={"base": base, "sequences": sequences},
        config={"train": fingerprinted(settings), "pack": fingerprinted(cfg.pack)},
        settings={"device": settings.device, "save_interval_steps": settings.save_interval_steps},
        work=work,
        resumable=True,
    )


def nemo_base(settings: AlignerTrain, run: RunDirectory) -> Path:
    """The base model in NeMo's format: the one that is named, or what hf_to_nemo converted."""
    return user_path(settings.nemo_model) if settings.nemo_model else run.artifact("hf_to_nemo", "model")


def _aligner(cfg: Config, settings: AlignerTrain, run: RunDirectory) -> Stage:
    """Write train.npy, packing.json, aligner.yaml, command.json and aligner/ (NeMo's logs and checkpoints)."""
    sequences = run.artifact("pack", "sequences.jsonl")
    tokens, base = run.artifact("convert", "model.json"), nemo_base(settings, run)

    def work(folder: Path) -> None:
        from nemo_cot.training.nemo_aligner.packed_file import Layout
        from nemo_cot.training.nemo_aligner.prepare import CONFIG_FILE, prepare_aligner

        ids = msgspec.json.decode(tokens.read_bytes())
        layout = Layout(
            cfg.pack.capacity_tokens,
            ids["eos_id"],
            ids["end_of_turn_id"],
            settings.layout.context_parallel_size,
        )
        rows = read_jsonl(sequences, TokenSequence)
        report = prepare_aligner(settings, cfg.pack, rows, layout, folder, cfg.name, base)
        print(report.line(), flush=True)
        _run(settings, aligner_command(settings, folder / CONFIG_FILE, os.environ), folder)

    return _nemo_stage(cfg, settings, {"base": base, "sequences": sequences, "tokens": tokens}, {}, work)


def _nemo_rl(cfg: Config, settings: NemoRlTrain, run: RunDirectory) -> Stage:
    """Write train.jsonl, tokens.jsonl, nemo_rl.yaml, command.json and nemo_rl/ (logs and checkpoints)."""
    base = base_model(cfg.model, run).resolve()
    traces, sequences = run.artifact("curate", "traces.jsonl"), run.artifact("pack", "sequences.jsonl")

    def work(folder: Path) -> None:
        from nemo_cot.training.nemo_rl import data as rl_data
        from nemo_cot.training.nemo_rl.render import RlInputs
        from nemo_cot.training.nemo_rl.command import check_command, rl_command

        config = folder / rl_data.CONFIG_FILE
        command = rl_command(settings, config, folder, os.environ)
        log_dir = folder / LOG_DIRS[settings.backend]
        rl_data.prepare_rl(
            settings,
            cfg.pack,
            read_jsonl(traces, Trace),
            read_jsonl(sequences, TokenSequence),
            student_tokenizer(cfg.model, base),
            folder,
            RlInputs(str(base), str(folder / rl_data.TRAIN_FILE), str(log_dir), cfg.name),
        )
        run_command(check_command(settings, config, folder / rl_data.EXPECTED_FILE, folder), os.environ)
        _run(settings, command, folder)

    inputs = {"base": base, "traces": traces, "sequences": sequences}
    return _nemo_stage(cfg, settings, inputs, {"model": format_config(cfg.model)}, work)


def _nemo_stage(cfg: Config, settings: NemoTrain, inputs: dict, more: dict, work) -> Stage:
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
        resumable=True,
        listed=(LOG_DIRS[settings.backend], "megatron_base"),
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
