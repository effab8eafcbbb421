"""Small data in the shape that an experiment asks for: problems, the released set, and teachers and editors that answer
by HTTP. All lengths are a tenth of the paper's.
"""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from pathlib import Path

from nemo_cot.config import Config
from tests.scripted_server import Script
from tests.support import write_lines

PROBLEMS = [(f"What is {n + 11} + {3 * n + 101}?", 4 * n + 112) for n in range(50)]
_SUM = re.compile(r"-?\d+(?: [+-] \d+)+")
_NUMBERS = {f"{n + 11}+{3 * n + 101}": n for n in range(50)}
SHORTER = 10
SAMPLES = 8
ASKED = {"plain": "Put your final answer within", "engineered": "thinks aloud and never trusts", "guided": "structure that you are asked for"}
"""What tells the prompt files of teachers apart, in what they ask."""
EDITS = {"edit_structure": "Rewrite the solution so that", "self_checks": "that goes straight ahead. Rewrite",
         "harmonise": "Rewrite it in this style", "paraphrase": "Explain this solution in your own words"}  # fmt: skip
_TURNS = ("Wait, is {a} right?", "Let me check: {a} - {b} is {c}.", "Alternatively, {a} is {b} + {c}.", "But {a} is odd, hmm.")


def solution(seed: str, answer: int, characters: int, turns: bool = True) -> str:
    """Steps of a sum, about so long, with or without turns between them; the box last."""
    draw, steps = random.Random(seed), []
    while sum(map(len, steps)) + 2 * len(steps) < characters - 30:
        a, b = draw.randrange(100, 999), draw.randrange(10, 99)
        steps.append(f"Now {a - b} + {b} is {a}.")
        if turns:
            steps.append(draw.choice(_TURNS).format(a=a, b=b, c=a - b))
    return "\n\n".join([*steps, f"The answer is \\boxed{{{answer}}}."])


def style(problem: int, sample: int) -> tuple[bool, int]:
    """Whether the reasoning teacher's sample is right, and its characters: every fifth problem is always right, the
    others half the time or more; four right ones of each are about as long as the paper's.
    """
    right = problem % 5 == 0 or sample < 4 or (sample > 5 and problem % 2 == 1)
    return right, {6: 110, 7: 780}.get(sample, 225 + 30 * sample + problem)


class Answers:
    """What the server says: as a reasoning teacher, an instruct model or an editor, by what it is asked."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()

    def __call__(self, body: dict) -> str:
        """The n-th request about a problem gets its n-th style."""
        text = "\n".join(turn["content"] for turn in body["messages"])
        last = body["messages"][-1]["content"]
        for name, part in EDITS.items():
            if part in text:
                self.asked[name] += 1
                return self.edited(name, last)
        kind = next((name for name, part in ASKED.items() if part in text), "reasoning")
        terms = _SUM.findall(last)[-1].replace(" ", "")
        answer, number = sum(map(int, re.findall(r"[+-]?\d+", terms))), _NUMBERS.get(terms)
        with self.lock:
            sample = self.counts[kind, terms]
            self.counts[kind, terms] += 1
            self.asked[kind] += 1
        if number is None:
            return f"I make it {answer}, sample {sample}: \\boxed{{{answer}}}"
        if kind == "reasoning":
            right, characters = style(number, sample % SAMPLES)
            return solution(f"{number}:{sample}", answer + (not right), characters)
        return f"{kind.capitalize()}.\n\n" + solution(f"{kind}:{number}:{sample}", answer, 60, turns=False)

    def edited(self, name: str, question: str) -> str:
        """The text with a sentence that names the pass, in the place and between the markers that its prompt wants."""
        heads = {"harmonise": "Reasoning:\n", "paraphrase": "Here is a correct way to solve it:\n\n"}
        text = question.partition(heads.get(name, "Solution:\n"))[2].partition("\n\nExplain this solution")[0]
        reply = f"Wait, this went through {name}.\n\n{text}"
        tag = {"harmonise": "reasoning", "paraphrase": None}.get(name, "solution")
        return f"<{tag}>\n{reply}\n</{tag}>" if tag else reply


def write_data(folder: Path) -> None:
    """Problems, held-out problems, the released set, and a human's solutions, each in its own shape."""
    rows = [{"problem": text, "expected_answer": str(answer)} for text, answer in PROBLEMS]
    write_lines(folder / "train_problems.jsonl", rows)
    write_lines(folder / "heldout.jsonl", [{"problem": f"What is {n} + 2?", "expected_answer": str(n + 2)} for n in (1, 2)])
    kinds = ("human_stage1", "human_stage2", "human_stage3", "human_stage4", "qwq_32b_preview")
    released = [
        {**row, "solution_type": kind, "solution": solution(f"{kind}:{n}", PROBLEMS[n][1], 260 + n, turns=kind[0] == "q")}
        for kind in kinds for n, row in enumerate(rows)
    ]  # fmt: skip
    write_lines(folder / "released.jsonl", released)
    human = [{**row, "generation": solution(f"h:{n}", PROBLEMS[n][1], 200, turns=False)} for n, row in enumerate(rows)]
    write_lines(folder / "human.jsonl", human)


def small(cfg: Config, data: Path, model: Path, server: Script) -> list[str]:
    """Overrides that give ``cfg`` this data, and keep what it asks for: only paths, engines, the size of the pool, and
    lengths by :data:`SHORTER` change.
    """
    given = ["model=hf_directory", f"model.path={model}", f"model.eos_token='{cfg.model.eos_token}'",
             f"model.end_of_turn='{cfg.model.end_of_turn}'", "grade.workers=1", "generate.chunks=1"]  # fmt: skip

    def served(place: str) -> list[str]:
        return [f"{place}.engine=openai", f"{place}.engine.server.base_url={server.base_url}", f"{place}.sampling.seeded=true",
                f"{place}.engine.server.model_name={server.name}", f"{place}.engine.endpoint=chat"]  # fmt: skip

    if cfg.problems.source != "chain_sum":
        given += [f"problems.{label}_path={data / label}{'_problems' if label == 'train' else ''}.jsonl" for label in cfg.problems.files]
        curate = {key: max(1, getattr(cfg.curate, key) // SHORTER) for key in ("min_tokens", "max_tokens", "target_tokens")}
        given += [f"curate.{key}={value}" for key, value in curate.items()]
    else:  # the tiny tokenizer makes up to twice as many tokens of it
        given.append(f"curate.max_tokens={2 * cfg.curate.max_tokens}")
    if cfg.teacher.by_model:
        samples = 1 if cfg.teacher_prompt else min(cfg.generate.samples_per_problem, SAMPLES)
        given += [*served("teacher"), f"generate.samples_per_problem={samples}"]
        given += [f"teacher.path={model}"] if cfg.teacher.path else []
    if cfg.teacher.traces:
        given.append(f"teacher.path={data / ('released' if cfg.teacher.columns.generation == 'solution' else 'human')}.jsonl")
    if cfg.refine.passes:
        given += [*served("refine"), f"refine.path={model}"]
        given += [f"teacher.where.{key}={value}" for key, value in cfg.curate.subset.items()]  # the others are not edited
    return given
