"""train: packed SFT of the base model on the curated traces."""

from collections.abc import Iterator
from pathlib import Path

from nemo_cot.config import Config, fingerprinted
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.models.format import base_model
from nemo_cot.sequences import TokenSequence
from nemo_cot.stages import RunDirectory, Stage
from recipes.main import recipe_main


def train(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Write model/ (Hugging Face) and metrics.jsonl (a row a step)."""
    base = base_model(cfg.model, run)
    sequences = run.artifact("pack", "sequences.jsonl")

    def work(folder: Path) -> None:
        from nemo_cot.training.trainer import train as run_training

        run_training(base, read_jsonl(sequences, TokenSequence), cfg.train, cfg.pack, folder)

    yield Stage("train", inputs={"base": base, "sequences": sequences},
                config={"train": fingerprinted(cfg.train), "pack": fingerprinted(cfg.pack)},
                settings={"device": cfg.train.device, "save_interval_steps": cfg.train.save_interval_steps},
                work=work, resumable=True)


if __name__ == "__main__":
    recipe_main(train)
