"""python -m nemo_cot.launchers.smoke FOLDER: a tiny model through the whole NeMo path, in the container, on one GPU.

A tiny Qwen2 is converted to NeMo's format, trained for 2 packed steps, and converted back. Each
step prints ok, or FAILED with its reason; the exit code is 1 if one failed. Overrides may follow
FOLDER, such as train.python=python3. It takes minutes; run it before the first run on a new image.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.compose import load_config
from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.models.tensors import same_bytes, tensor_index
from nemo_cot.packing.sequences import tokenize_traces
from nemo_cot.recipes import convert as convert_recipe
from nemo_cot.recipes import hf_to_nemo as to_nemo_recipe
from nemo_cot.recipes import nemo_to_hf as to_hf_recipe
from nemo_cot.recipes import train as train_recipe
from nemo_cot.stages import RunDirectory, run_stage
from nemo_cot.text import PromptFormat, TextTokenizer
from nemo_cot.training.nemo.command import Command, check_importable, run_command
from nemo_cot.training.nemo_aligner import smoke_model
from nemo_cot.training.nemo_aligner.conversion import family_of, nemo_to_hf

LEARNING_RATE, STEPS = 1e-3, 2


class Smoke:
    """One smoke test in ``folder``; its public methods are the steps, in the order of :data:`STEPS_IN_ORDER`."""

    def __init__(self, folder: Path, overrides: Sequence[str] = ()) -> None:
        self.base = folder / "base"
        self.run = RunDirectory(folder / "smoke").create()
        self.cfg = _config(folder, self.base, overrides)

    def tools(self) -> str:
        """NeMo-Aligner and its converters can be imported, and there is a GPU."""
        import torch

        modules = ["nemo_aligner", "transformer_engine", "nemo_skills.conversion.hf_to_nemo_qwen"]
        check_importable([], self.cfg.train.python, modules, "smoke")
        if not torch.cuda.is_available():
            raise UserError("no GPU is visible", where="smoke", fix="start the container with one")
        return torch.cuda.get_device_name()

    def model(self) -> str:
        """A tiny Qwen2 with a tokenizer, and traces as the stage pack leaves them."""
        smoke_model.write(self.base)
        model = self.cfg.model
        tokenizer = TextTokenizer(self.base, PromptFormat(model.prompt, model.end_of_turn, model.eos_token))
        rows = tokenize_traces(smoke_model.traces(), tokenizer, capacity_tokens=self.cfg.pack.capacity_tokens)
        self._stages(convert_recipe.convert)
        self.run.stage("pack").mkdir(exist_ok=True)
        write_jsonl(self.run.stage("pack") / "sequences.jsonl", rows)
        return f"{len(tensor_index(self.base))} tensors, {len(rows)} traces"

    def to_nemo(self) -> str:
        """The stage hf_to_nemo; every array is where the layout puts it, to bf16's rounding."""
        self._stages(to_nemo_recipe.hf_to_nemo)
        worst = smoke_model.compare_arrays(
            self.run.artifact("hf_to_nemo", "model") / "model_weights", self.base
        )
        return f"largest difference {worst:g}"

    def there_and_back(self) -> str:
        """The base model converted back, untrained, is the base model bit for bit."""
        target = self.run.path / "back"
        settings = self.cfg.train
        nemo = self.run.artifact("hf_to_nemo", "model")
        argv = nemo_to_hf(settings.python, family_of(self.base), nemo, target, base=self.base)
        run_command(Command(argv, {}), os.environ, stage="smoke")
        own, back = tensor_index(self.base), tensor_index(target)
        odd = [name for name in own if name not in back or not same_bytes(own[name], back[name])]
        if odd:
            raise UserError(f"{len(odd)} tensors changed, {odd[0]} first", where=str(target))
        return f"{len(own)} tensors"

    def train(self) -> str:
        """The stage train: 2 steps of packs. Before the first it compares packed with unpacked loss."""
        self._stages(train_recipe.train)
        found = json.loads((self.run.stage("train") / "aligner" / "packing.json").read_text())
        _check_near(found["packed"], found["alone"], "packed", "alone", where="train")
        return f"packed {found['packed']:.4f}, alone {found['alone']:.4f}"

    def loss(self) -> str:
        """The untrained model's loss of the same pack in transformers, on the CPU in fp32, is NeMo's."""
        stage = self.run.stage("train")
        found = json.loads((stage / "aligner" / "packing.json").read_text())
        own = smoke_model.loss_of_pack(self.base, stage / "train.npy", found["row"])
        _check_near(found["packed"], own, "NeMo", "transformers", where="loss")
        return f"transformers {own:.4f}, NeMo {found['packed']:.4f}"

    def to_hugging_face(self) -> str:
        """The stage nemo_to_hf; no weight moved further than two steps of Adam can take it."""
        self._stages(to_hf_recipe.nemo_to_hf)
        moved, most = smoke_model.largest_moves(self.base, self.run.artifact("nemo_to_hf", "model"))
        if not 0 < moved <= most:
            raise UserError(f"a weight moved by {moved:g}, at most {most:g} is possible", where="nemo_to_hf")
        return f"largest move {moved:g}"

    def _stages(self, recipe: Callable) -> None:
        for stage in recipe(self.cfg):
            run_stage(stage, self.run)


STEPS_IN_ORDER = ("tools", "model", "to_nemo", "there_and_back", "train", "loss", "to_hugging_face")


def run_steps(smoke: Smoke, steps: Sequence[str] = STEPS_IN_ORDER) -> int:
    """Run the steps, one line each, up to the first that fails: later ones need it. Returns the exit code."""
    for number, name in enumerate(steps, start=1):
        try:
            line = getattr(smoke, name)()
        except UserError as error:
            return _failed(number, len(steps), name, str(error))
        except Exception as error:
            traceback.print_exc()
            return _failed(number, len(steps), name, f"{type(error).__name__}: {error}")
        print(f"{number}/{len(steps)} {name}: ok, {one_line(line)}", flush=True)
    print("smoke test passed", flush=True)
    return 0


def _check_near(loss: float, wanted: float, name: str, other: str, *, where: str) -> None:
    """Raise UserError if two losses of one pack differ by more than rounding."""
    if not abs(loss - wanted) <= smoke_model.TOLERANCE * wanted:
        raise UserError(f"the loss of a pack is {loss:.4f} ({name}), {wanted:.4f} ({other})", where=where)


def _failed(number: int, total: int, name: str, why: str) -> int:
    print(one_line(f"{number}/{total} {name}: FAILED, {why}"), flush=True)
    return 1


def _config(folder: Path, base: Path, overrides: Sequence[str]) -> Config:
    return load_config(
        [
            "name=smoke",
            f"runs_dir={folder}",
            "model=hf_directory",
            f"model.path={base}",
            "train=nemo_aligner",
            "train.layout.num_nodes=1",
            "train.layout.gpus_per_node=1",
            "train.layout.tensor_model_parallel_size=1",
            "train.layout.sequence_parallel=false",
            f"train.max_steps={STEPS}",
            "train.save_interval_steps=1",
            "train.global_batch_size=16",
            f"train.optim.lr={LEARNING_RATE}",
            "train.optim.sched.name=constant",
            "train.optim.sched.warmup_steps=0",
            "train.max_time_per_run='00:00:30:00'",
            "pack.capacity_tokens=512",
            "pack.strategy=shuffle",
            *overrides,
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """The command line. Returns 2 for a wrong one."""
    if not arguments or arguments[0].startswith("-"):
        print(__doc__)
        return 0 if arguments else 2
    try:
        smoke = Smoke(Path(arguments[0]).resolve(), arguments[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run_steps(smoke)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
