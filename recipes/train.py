"""train: packed SFT of the base model on the curated traces."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from nemo_cot.config import Config, LocalTrain
from nemo_cot.config_checks import fingerprinted
from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.models.format import base_model
from nemo_cot.nemo.config import AlignerTrain
from nemo_cot.sequences import TokenSequence
from nemo_cot.stages import RunDirectory, Stage
from recipes.main import recipe_main


def train(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Train with the backend that train.backend names: local writes model/ and metrics.jsonl."""
    if isinstance(cfg.train, LocalTrain):
        yield _local(cfg, cfg.train, run)
    elif isinstance(cfg.train, AlignerTrain):
        yield _aligner(cfg, cfg.train, run)
    else:
        raise UserError(
            "this recipe does not start NeMo-RL yet; its config is rendered by nemo_cot.nemo.render_rl",
            where="train.backend",
            fix="set train=nemo_aligner or train=local",
        )


def _local(cfg: Config, settings: LocalTrain, run: RunDirectory) -> Stage:
    """Write model/ (Hugging Face) and metrics.jsonl (a row a step)."""
    base = base_model(cfg.model, run)
    sequences = run.artifact("pack", "sequences.jsonl")

    def work(folder: Path) -> None:
        from nemo_cot.training.trainer import train as run_training

        run_training(base, read_jsonl(sequences, TokenSequence), settings, cfg.pack, folder)

    return Stage(
        "train",
        inputs={"base": base, "sequences": sequences},
        config={"train": fingerprinted(settings), "pack": fingerprinted(cfg.pack)},
        settings={"device": settings.device, "save_interval_steps": settings.save_interval_steps},
        work=work,
        resumable=True,
    )


def _aligner(cfg: Config, settings: AlignerTrain, run: RunDirectory) -> Stage:
    """Write train.npy, aligner.yaml, command.json and aligner/ (NeMo's logs and checkpoints).

    Run it inside the training container. A run that was cut short, by its time limit or a kill,
    goes on from the last checkpoint when the same command is given again.
    """
    sequences = run.artifact("pack", "sequences.jsonl")
    tokens = run.artifact("convert", "model.json")
    if settings.nemo_model is None:
        raise UserError(
            "no base model in NeMo's format",
            where="train.nemo_model",
            fix="convert it (docs/nemo.md), then set train.nemo_model",
        )

    def work(folder: Path) -> None:
        from nemo_cot.io.atomic import write_bytes
        from nemo_cot.nemo.command import aligner_command, check_finished, run_command
        from nemo_cot.nemo.packed_file import Layout
        from nemo_cot.nemo.prepare import CONFIG_FILE, LOG_DIR, prepare_aligner

        ids = msgspec.json.decode(tokens.read_bytes())
        layout = Layout(
            cfg.pack.capacity_tokens,
            ids["eos_id"],
            ids["end_of_turn_id"],
            settings.layout.context_parallel_size,
        )
        prepare_aligner(settings, cfg.pack, read_jsonl(sequences, TokenSequence), layout, folder, cfg.name)
        command = aligner_command(settings, folder / CONFIG_FILE, os.environ)
        write_bytes(
            folder / "command.json",
            msgspec.json.format(msgspec.json.encode(command._asdict()), indent=2) + b"\n",
        )
        run_command(command, os.environ)
        check_finished(folder / LOG_DIR, settings.max_steps)

    return Stage(
        "train",
        inputs={"base": Path(settings.nemo_model).expanduser(), "sequences": sequences, "tokens": tokens},
        config={"train": fingerprinted(settings), "pack": fingerprinted(cfg.pack)},
        settings={"save_interval_steps": settings.save_interval_steps},
        work=work,
        resumable=True,
    )


if __name__ == "__main__":
    recipe_main(train)
