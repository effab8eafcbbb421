"""convert: make the base model's Hugging Face directory, or check the one that is named."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.paths import user_path
from nemo_cot.models.convert import check_hf_directory, find_gguf, gguf_to_hf
from nemo_cot.models.format import format_config, student_tokenizer
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.experiment.recipe import recipe_main


def convert(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Write model/ out of a GGUF file; a Hugging Face directory is checked and used in place."""
    config = {"model": {"name": cfg.model.name, "source": cfg.model.source, **format_config(cfg.model)}}
    if cfg.model.source == "gguf_package":
        gguf = find_gguf(cfg.model.package or "")
        yield Stage(
            "convert", inputs={"gguf": gguf}, config=config, work=lambda folder: _from_gguf(cfg, gguf, folder)
        )
    else:
        directory = user_path(cfg.model.path or "")
        check_hf_directory(directory)
        yield Stage(
            "convert",
            inputs={"model": directory},
            config=config,
            work=lambda folder: _describe(cfg, directory, folder),
        )


def _from_gguf(cfg: Config, gguf: Path, folder: Path) -> None:
    gguf_to_hf(gguf, folder / "model", eos_token=cfg.model.eos_token)
    _describe(cfg, folder / "model", folder)


def _describe(cfg: Config, directory: Path, folder: Path) -> None:
    """Read the tokenizer as later stages will, so that a wrong token name fails here."""
    tokenizer = student_tokenizer(cfg.model, directory)
    facts = {"name": cfg.model.name, "eos_id": tokenizer.eos_id, "end_of_turn_id": tokenizer.end_of_turn_id}
    write_bytes(folder / "model.json", msgspec.json.encode(facts) + b"\n")


if __name__ == "__main__":
    recipe_main(convert)
