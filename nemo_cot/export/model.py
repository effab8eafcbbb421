"""The trained model of a run with a card beside its weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.evaluation.graded_runs import scored_sets
from nemo_cot.evaluation.scores import read_scores
from nemo_cot.export.card import write_card
from nemo_cot.export.dataset import trained_traces
from nemo_cot.export.folder import new_folder
from nemo_cot.io.jsonl import count_lines
from nemo_cot.models.convert import check_hf_directory
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import Manifest

_MAKERS = ("nemo_to_hf", "train")
"""The stages that may write the trained model, as a Hugging Face directory, the last one first."""


def export_model(run: RunDirectory, manifests: Mapping[str, Manifest], target: Path) -> Path:
    """Write the trained model's files and README.md into ``target``. Weights are hard links where the disk
    is the same, so that they take no room twice. Returns the folder that they came from.

    Raises UserError if there is no trained model, or ``target`` is there already.
    """
    made = [run.stage(name) / "model" for name in _MAKERS if name in manifests]
    source = next((folder for folder in made if (folder / "config.json").exists()), None)
    if source is None:
        raise UserError(
            "there is no trained model",
            where=str(run.path),
            fix="run the chain up to train (nemo_to_hf with NeMo)",
        )
    check_hf_directory(source, key="the trained model")
    with new_folder(target) as folder:
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(path, copy)
        (folder / "README.md").unlink(missing_ok=True)  # of the base model
        train, convert = manifests.get("train"), manifests.get("convert")
        scored = {name: read_scores(run, name) for name in ("", *scored_sets(run))}
        traces = trained_traces(run, manifests)
        write_card(
            folder, "model", manifests, name=run.path.name, train=train,
            base=Path((convert.config.get("model", {}) if convert else {}).get("name", "unknown")).name,
            form=manifests["pack"].config.get("model", {}) if "pack" in manifests else {},
            traces=count_lines(traces) if traces.exists() else 0,
            sets={name: scores for name, scores in scored.items() if scores},
            weights={p.name: run.hasher().sha256(p) for p in sorted(source.glob("*.safetensors"))},
        )  # fmt: skip
    return source


def _link_or_copy(path: Path, copy: Path) -> None:
    """Weights are linked: nobody edits them in place. Everything else is a file of its own."""
    if path.suffix == ".safetensors":
        try:
            os.link(path, copy)
            return
        except OSError:
            pass  # another disk
    shutil.copyfile(path, copy)
