"""convert: make the base model's Hugging Face directory, or check the given one."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.atomic import write_bytes
from nemo_cot.models.convert import find_gguf, gguf_to_hf, hf_directory
from nemo_cot.models.format import format_config, student_tokenizer
from nemo_cot.stages import Stage


def convert(cfg: Config) -> Iterator[Stage]:
    """Write model/ from a GGUF file; a Hugging Face directory is checked and used in place."""
    model = cfg.model
    packaged = model.source == "gguf_package"

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        if packaged:
            gguf_to_hf(inputs["gguf"], folder / "model", eos_token=model.eos_token)
        # Read the tokenizer as later stages will, so that a wrong token name fails here.
        tokenizer = student_tokenizer(model, folder / "model" if packaged else inputs["model"])
        facts = {"name": model.name, "eos_id": tokenizer.eos_id, "end_of_turn_id": tokenizer.end_of_turn_id}
        write_bytes(folder / "model.json", msgspec.json.encode(facts) + b"\n")

    yield Stage(
        "convert",
        inputs={"gguf": partial(find_gguf, model.package or "")}
        if packaged
        else {"model": partial(hf_directory, model.path or "")},
        config={"model": {"name": model.name, "source": model.source, **format_config(model)}},
        work=work,
        writes=("model", "model.json") if packaged else ("model.json",),
    )


if __name__ == "__main__":
    recipe_main(convert)
