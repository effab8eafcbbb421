"""Commands of NeMo-RL (commit 7ea279ab) that convert its checkpoints to Hugging Face, as argument lists."""

from __future__ import annotations

from pathlib import Path


def megatron_to_hf(step: Path, weights: Path, hugging_face: Path, *, base: Path) -> list[str]:
    """NeMo-RL's checkpoint folder ``step`` -> Hugging Face directory, which must not exist yet.

    ``weights`` is the step's Megatron folder (iter_...). Run it in NeMo-RL's source tree.
    """
    config = ["--config", str(step / "config.yaml"), "--hf-model-name", str(base)]
    places = ["--megatron-ckpt-path", str(weights), "--hf-ckpt-path", str(hugging_face)]
    return [*_RL_PYTHON, "examples/converters/convert_megatron_to_hf.py", *config, *places]


def megatron_lora_to_hf(weights: Path, megatron_base: Path, hugging_face: Path, *, base: Path) -> list[str]:
    """The same for adapters: they are merged into ``megatron_base``, NeMo-RL's own copy of the base model."""
    models = ["--base-ckpt", str(megatron_base), "--adapter-ckpt", str(weights), "--hf-model-name", str(base)]
    return [*_RL_PYTHON, "examples/converters/convert_lora_to_hf.py", *models, "--hf-ckpt-path", str(hugging_face)]


_RL_PYTHON = ("uv", "run", "--extra", "mcore", "python")
