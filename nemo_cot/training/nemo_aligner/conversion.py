"""Commands that convert weights between Hugging Face and NeMo's format, as argument lists.

They are NeMo-Skills' scripts, as of the parent of its commit a651925a of 2025-10-15, which removed
them. Nothing goes through a shell.
"""

from __future__ import annotations

from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.training.nemo.converted import read_config

FAMILIES = {"qwen2": "qwen", "llama": "llama", "mistral": "llama"}
"""model_type of a config.json -> the converter of NeMo-Skills that knows it."""
TIED = (
    "its embeddings are tied; NeMo-Skills' converters train two and keep one",
    "use a model with tie_word_embeddings=false, or train=nemo_rl",
)
"""What is wrong with a model whose input and output embeddings are one, and the fix."""


def family_of(hugging_face: Path) -> str:
    """Which of NeMo-Skills' converters takes the model in ``hugging_face``.

    Raises UserError for what they would convert wrongly, or not at all: another architecture,
    tied embeddings (they untie them), and Qwen's scaled rotary embeddings (they drop the scale).
    """
    config = read_config(hugging_face)
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UserError(
            f"no converter for {kind!r}", where=str(hugging_face), fix=f"use one of {', '.join(FAMILIES)}"
        )
    if config.get("tie_word_embeddings", False):
        raise UserError(TIED[0], where=str(hugging_face), fix=TIED[1])
    if (
        FAMILIES[kind] == "qwen"
        and (config.get("rope_scaling") or {}).get("rope_type", "default") != "default"
    ):
        raise UserError(
            f"rope_scaling {config['rope_scaling']} is left out by NeMo-Skills' converter",
            where=str(hugging_face),
            fix="use a model without rope_scaling, or train=nemo_rl",
        )
    return FAMILIES[kind]


def converters(family: str) -> tuple[str, str]:
    """The modules that convert to NeMo and back."""
    return f"nemo_skills.conversion.hf_to_nemo_{family}", f"nemo_skills.conversion.nemo_to_hf_{family}"


def hf_to_nemo(python: str, family: str, hugging_face: Path, nemo: Path) -> list[str]:
    """Hugging Face directory -> unpacked NeMo folder, in bf16 (the script's own default is fp16)."""
    places = ["--in-path", str(hugging_face), "--out-path", str(nemo), "--hf-model-name", str(hugging_face)]
    return [python, "-m", converters(family)[0], *places, "--precision", "bf16", "--nemo-format", "zarr"]


def nemo_to_hf(python: str, family: str, nemo: Path, hugging_face: Path, *, base: Path) -> list[str]:
    """Unpacked NeMo folder -> Hugging Face directory in bf16, on the CPU; config and tokenizer from ``base``.

    Raises UserError for a packed .nemo file, which the script cannot take.
    """
    if nemo.suffix == ".nemo" and not nemo.is_dir():
        raise UserError(
            "is a packed file, and the converter takes an unpacked folder",
            where=str(nemo),
            fix=f"mkdir a folder, tar -xf {nemo.name} -C it, and give the folder",
        )
    places = ["--in-path", str(nemo), "--out-path", str(hugging_face), "--hf-model-name", str(base)]
    return [python, "-m", converters(family)[1], *places, "--precision", "bf16", "--cpu-only"]
