"""Commands that convert weights between Hugging Face and a NeMo backend, as argument lists.

NeMo-Aligner's are NeMo-Skills' scripts (as of the parent of its commit a651925a of 2025-10-15,
which removed them); NeMo-RL's are its own (commit 7ea279ab). Nothing goes through a shell.
"""

from __future__ import annotations

import json
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.io.paths import user_path
from nemo_cot.stages import Output
from nemo_cot.training.nemo.config import AlignerTrain

FAMILIES = {"qwen2": "qwen", "llama": "llama", "mistral": "llama"}
"""model_type of a config.json -> the converter of NeMo-Skills that knows it."""


def nemo_base(train: AlignerTrain) -> Output | Path:
    """The base model in NeMo's format: the one that is named, or what the stage hf_to_nemo converts."""
    return user_path(train.nemo_model) if train.nemo_model else Output("hf_to_nemo", "model")


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
        raise UserError(
            "its embeddings are tied; NeMo-Skills' converters train two and keep one",
            where=str(hugging_face),
            fix="use a model with tie_word_embeddings=false, or train=nemo_rl",
        )
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


def read_config(hugging_face: Path) -> dict:
    """config.json of a Hugging Face directory. Raises UserError when it is missing or damaged."""
    path = hugging_face / "config.json"
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"unreadable ({error})", where=str(path), fix="give a Hugging Face directory"
        ) from None


def converters(family: str) -> tuple[str, str]:
    """The modules that convert to NeMo and back."""
    return f"nemo_skills.conversion.hf_to_nemo_{family}", f"nemo_skills.conversion.nemo_to_hf_{family}"


def hf_to_nemo(python: str, family: str, hugging_face: Path, nemo: Path) -> list[str]:
    """Hugging Face directory -> unpacked NeMo folder, in bf16 (the script's own default is fp16)."""
    return [
        python,
        "-m",
        converters(family)[0],
        "--in-path",
        str(hugging_face),
        "--out-path",
        str(nemo),
        "--hf-model-name",
        str(hugging_face),
        "--precision",
        "bf16",
        "--nemo-format",
        "zarr",
    ]


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
    return [
        python,
        "-m",
        converters(family)[1],
        "--in-path",
        str(nemo),
        "--out-path",
        str(hugging_face),
        "--hf-model-name",
        str(base),
        "--precision",
        "bf16",
        "--cpu-only",
    ]


def megatron_to_hf(step: Path, weights: Path, hugging_face: Path, *, base: Path) -> list[str]:
    """NeMo-RL's checkpoint folder ``step`` -> Hugging Face directory, which must not exist yet.

    ``weights`` is the step's Megatron folder (iter_...). Run it in NeMo-RL's source tree.
    """
    return [
        *_RL_PYTHON,
        "examples/converters/convert_megatron_to_hf.py",
        "--config",
        str(step / "config.yaml"),
        "--hf-model-name",
        str(base),
        "--megatron-ckpt-path",
        str(weights),
        "--hf-ckpt-path",
        str(hugging_face),
    ]


def megatron_lora_to_hf(weights: Path, megatron_base: Path, hugging_face: Path, *, base: Path) -> list[str]:
    """The same for adapters: they are merged into ``megatron_base``, NeMo-RL's own copy of the base model."""
    return [
        *_RL_PYTHON,
        "examples/converters/convert_lora_to_hf.py",
        "--base-ckpt",
        str(megatron_base),
        "--adapter-ckpt",
        str(weights),
        "--hf-model-name",
        str(base),
        "--hf-ckpt-path",
        str(hugging_face),
    ]


_RL_PYTHON = ("uv", "run", "--extra", "mcore", "python")
