"""Tokens per second and peak memory of packed SFT: the local backend beside TRL's SFTTrainer.

    pip install 'nemo-cot[local,bench]'
    python benchmarks/train_speed.py --records speed.jsonl

Both sides train the same weights on the same token lists with the same trained positions; a step is
the whole data set, so both process the same tokens. Each measurement is a process of its own; the
sides alternate. The first step of a process is not counted. Every measurement is appended to
``--records`` and the table is made of all rows there, so the work can be cut into several calls.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from machine import describe_machine
from training_common import DATA, model_directory, run_side, traces, train_config, versions

from nemo_cot.packing.sequences import TokenSequence

if TYPE_CHECKING:
    from transformers import TrainerCallback

PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft")
NOTES = """\
ours: nemo_cot.training.train as the train stage runs it. bf16: bfloat16 weights and activations; float32
  master weights, gradients, moments and loss. Attention sequence by sequence, projection at trained
  positions only, freed memory kept in the process (glibc mallopt). AdamW (fused), clipping at 1.
TRL: SFTTrainer, packing=True, packing_strategy="bfd", sdpa, one pack a forward pass, gradients accumulated
  over the packs. bf16: bf16=True, float32 weights under autocast. AdamW (torch, fused), clipping at 1.
LoRA: the adapters of conf/train/lora on every linear layer on both sides (peft's LoraConfig in TRL).
fp32: float32 weights, activations and gradients on both sides. Activation checkpointing: alike on both sides
  (TRL's own default is on).
tokens/s: all tokens of the data, prompts included, by wall time of whole optimizer steps. GiB: peak RSS."""

HEAD = (
    "| precision | trained | traces | pack | checkpointing | runs | ours tokens/s | TRL tokens/s | ratio | ours GiB "
    "| TRL GiB | first loss, ours / TRL |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
)


def main() -> None:
    """Measure what the arguments choose, then print the table of all records."""
    arguments = _arguments()
    if arguments.task:
        task = json.loads(arguments.task)
        print(json.dumps(_ours(task) if task["side"] == "ours" else _trl(task)))
        return
    with model_directory(arguments.model) as model:
        for repetition in range(arguments.repetitions):
            for case in _cases(arguments):
                for side in ("ours", "trl") if repetition % 2 == 0 else ("trl", "ours"):
                    task = case | {"side": side, "model": str(model), "steps": arguments.steps}
                    row = task | run_side(__file__, task)
                    with arguments.records.open("a") as out:
                        out.write(json.dumps(row) + "\n")
    print(_table([json.loads(line) for line in arguments.records.read_text().splitlines()]))


def _cases(arguments: argparse.Namespace) -> list[dict]:
    return [
        {"precision": precision, "data": data, "capacity": capacity, "checkpointing": arguments.checkpointing,
         "lora": arguments.lora}
        for precision in arguments.precision
        for data in arguments.data
        for capacity in arguments.capacity
    ]


def _ours(task: dict) -> dict:
    from nemo_cot.config import PackConfig
    from nemo_cot.training.local.trainer import METRICS, train

    sequences = traces(Path(task["model"]), *DATA[task["data"]])
    config = train_config(
        len(sequences),
        1 + task["steps"],
        precision=task["precision"],
        activation_checkpointing=task["checkpointing"],
        **{"lora.enabled": task["lora"]},
    )
    with tempfile.TemporaryDirectory() as folder:
        train(
            Path(task["model"]), sequences, config, PackConfig(task["capacity"], "best_fit", 0), Path(folder)
        )
        rows = [json.loads(line) for line in (Path(folder) / METRICS).read_text().splitlines()]
    return _result(sequences, [row["seconds"] for row in rows], rows[0]["loss"], rows[0]["packs"])


def _trl(task: dict) -> dict:
    import torch
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    from trl.data_utils import pack_dataset

    from nemo_cot.training.local.lora import peft_config

    disable_progress_bar()
    sequences = traces(Path(task["model"]), *DATA[task["data"]])
    rows = [{"input_ids": s.input_ids, "labels": _labels(s)} for s in sequences]
    packs = len(pack_dataset(Dataset.from_list(rows), task["capacity"], "bfd"))
    clock = _clock()
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            packing=True,
            packing_strategy="bfd",
            max_length=task["capacity"],
            per_device_train_batch_size=1,
            gradient_accumulation_steps=packs,
            max_steps=1 + task["steps"],
            learning_rate=1e-5,
            lr_scheduler_type="constant",
            adam_beta1=0.9,
            adam_beta2=0.95,
            weight_decay=0.0,
            max_grad_norm=1.0,
            bf16=task["precision"] == "bf16",
            gradient_checkpointing=task["checkpointing"],
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            seed=0,
        )
        model = AutoModelForCausalLM.from_pretrained(
            task["model"], dtype=torch.float32, attn_implementation="sdpa"
        )
        tokenizer = AutoTokenizer.from_pretrained(task["model"])
        trainer = SFTTrainer(
            model=model,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[clock],
            peft_config=peft_config(train_config(1, 1).lora) if task["lora"] else None,
        )
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return _result(sequences, clock.seconds, losses[0], packs)


def _labels(sequence: TokenSequence) -> list[int]:
    prompt = sequence.num_prompt_tokens
    return [-100] * prompt + sequence.input_ids[prompt:]


def _clock() -> TrainerCallback:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Wall time of each optimizer step, from its first forward pass to the update."""

        def __init__(self) -> None:
            self.seconds, self._started = [], 0.0

        def on_step_begin(self, *_: object, **__: object) -> None:
            self._started = time.monotonic()

        def on_step_end(self, *_: object, **__: object) -> None:
            self.seconds.append(time.monotonic() - self._started)

    return Clock()


def _result(sequences: Sequence, seconds: Sequence[float], first_loss: float, packs: int) -> dict:
    tokens = sum(len(s.input_ids) for s in sequences)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "tokens_per_second": tokens / statistics.median(seconds[1:]),
        "peak_gib": peak,
        "loss": first_loss,
        "packs": packs,
        "tokens": tokens,
        "seconds": [round(s, 2) for s in seconds],
    }


def _table(rows: list[dict]) -> str:
    keys = sorted({_key(row) for row in rows})
    lines = [_line(key, [row for row in rows if _key(row) == key]) for key in keys]
    return "\n".join([describe_machine(), versions(PACKAGES), NOTES, "", *HEAD, *lines])


def _key(row: dict) -> tuple:
    return row["precision"], row.get("lora", False), row["data"], row["capacity"], row["checkpointing"]


def _line(key: tuple, rows: list[dict]) -> str:
    def median(side: str, field: str) -> float:
        found = [row[field] for row in rows if row["side"] == side]
        return statistics.median(found) if found else float("nan")

    precision, lora, data, capacity, checkpointing = key
    ours, trl = (median(side, "tokens_per_second") for side in ("ours", "trl"))
    memory, loss = ([median(side, field) for side in ("ours", "trl")] for field in ("peak_gib", "loss"))
    return (
        f"| {precision} | {'LoRA' if lora else 'all'} | {data} | {capacity:,} | {'on' if checkpointing else 'off'} | {len(rows) // 2} | "
        f"{ours:.0f} | {trl:.0f} | {ours / trl:.2f} | {memory[0]:.2f} | {memory[1]:.2f} | "
        f"{loss[0]:.4f} / {loss[1]:.4f} |"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, help="a Hugging Face directory (default: SmolLM2-135M, made here)"
    )
    parser.add_argument("--records", type=Path, default=Path("train_speed.jsonl"))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1, help="counted steps a process")
    parser.add_argument("--precision", nargs="+", default=["bf16", "fp32"])
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--capacity", nargs="+", type=int, default=[1024, 4096])
    parser.add_argument("--checkpointing", action="store_true", help="activation checkpointing on both sides")
    parser.add_argument("--lora", action="store_true", help="train adapters, on both sides")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
