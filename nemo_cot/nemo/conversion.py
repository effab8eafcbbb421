"""Commands that convert weights between Hugging Face and NeMo, and average checkpoints.

The scripts are NeMo-Skills' (before its commit a651925a of 2025-10-15, which removed them), in
its training image. Here are their argument lists; nothing goes through a shell.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nemo_cot.errors import UserError

FAMILIES = ("qwen", "llama")
"""Converters of NeMo-Skills; llama's also serves Mistral."""


def hf_to_nemo(python: str, family: str, hugging_face: Path, nemo: Path) -> list[str]:
    """Hugging Face directory -> unpacked NeMo folder, in bf16 (the script's own default is fp16).

    zarr, because the averaging below reads nothing else. Raises UserError for an unknown family.
    """
    return [
        python,
        "-m",
        f"nemo_skills.conversion.hf_to_nemo_{_checked(family)}",
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

    Raises UserError for an unknown family, and for a packed .nemo file, which the script cannot take.
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
        f"nemo_skills.conversion.nemo_to_hf_{_checked(family)}",
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


def average_checkpoints(
    python: str, checkpoints: Path, base_nemo: Path, name: str, steps: Sequence[int], saved: Sequence[int]
) -> list[str]:
    """Average the checkpoints of ``steps`` in ``checkpoints`` into a folder there, NAME30-40-50-averaged.

    saved: all steps that were saved. The script looks for the text "step=5" in folder names, so
    step=50 would be taken too, in silence: raises UserError for that, for a step that was not
    saved, and for fewer than two.
    """
    missing = sorted(set(steps) - set(saved))
    if len(set(steps)) < 2 or missing:
        raise UserError(
            f"steps {list(steps)} of the saved {sorted(saved)}",
            where="average_checkpoints",
            fix="name two or more of the saved steps",
        )
    for step in steps:
        taken = sorted(other for other in saved if other != step and str(other).startswith(str(step)))
        if taken:
            raise UserError(
                f"step {step} would take the checkpoints of {taken} too",
                where="average_checkpoints",
                fix="average steps that no other saved step begins with",
            )
    return [
        python,
        "-m",
        "nemo_skills.training.average_checkpoints",
        "--name_prefix",
        name,
        "--untarred_nemo_dir",
        str(base_nemo),
        "--checkpoint_dir",
        str(checkpoints),
        "--steps",
        *map(str, steps),
    ]


def _checked(family: str) -> str:
    if family not in FAMILIES:
        raise UserError(
            f"no converter for {family!r}", where="model", fix=f"use one of {', '.join(FAMILIES)}"
        )
    return family
