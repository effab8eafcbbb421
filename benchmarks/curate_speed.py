"""Curation of as many traces as the paper sampled: ten filters, measures, a diverse selection within quotas.

    python benchmarks/curate_speed.py [--problems 50] [--samples 512] [--model DIR] [--keep FOLDER]

Makes graded traces of about 3K tokens (words, formulas, marks of reflection; some wrong, cut, looping or of
another script), then does the work of the stage curate in a process of its own, with all that conf/curate
has. Prints seconds and the most memory that the process and its workers held together (proportional set size,
sampled).
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from machine import describe_machine
from training_common import model_directory

from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.records import Problem, Trace

FILTERS = {
    "finish": {}, "verdict": {"keep": ["right", "wrong"]}, "tokens": {"least": 1000, "most": 6000},
    "repetition": {"most_ngrams": 0.8, "least_compression": 0.1, "most_loop": 0.3}, "script": {"most": 0.02},
    "boxes": {"most": 3}, "contamination": {"drop": ["exact", "ngram"]}, "regex": {"pattern": "as an AI"},
    "measure": {"bounds": {"steps": {"least": 5}, "keyword_density": {"least": 0.001}, "lexical_diversity": {"least": 0.2}}},
}  # fmt: skip
"""With curate's own pass_rate band, ten."""
WORK = """
import json, sys, time
from pathlib import Path
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import whole_graph
folder, inputs, overrides = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
work = whole_graph(load_config(overrides)).stages["curate"].work
if __name__ == "__main__":
    work(folder, {name: Path(path) for name, path in inputs.items()})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument(
        "--model", type=Path, help="a folder with tokenizer.json; without it SmolLM2's is made"
    )
    parser.add_argument(
        "--keep", type=Path, help="where the made-up traces stay, and are found the next time"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curate-") as scratch, model_directory(options.model) as model:
        data = options.keep or Path(scratch)
        graded, heldout = data / "graded.jsonl", data / "heldout.jsonl"
        if not graded.exists():
            data.mkdir(parents=True, exist_ok=True)
            rng = random.Random(0)
            write_jsonl(heldout, list(problems(rng, 256, "h")))
            write_jsonl(graded, traces(rng, list(problems(rng, options.problems, "p")), options.samples))
        out = Path(scratch) / "out"
        out.mkdir()
        inputs = {"graded": str(graded), "heldout": str(heldout), "tokenizer": str(model / "tokenizer.json")}
        print(describe_machine())
        seconds, peak = measured(out, inputs, overrides(model))
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = [msgspec.json.decode(line) for line in (out / "selection.jsonl").read_bytes().splitlines()]
        print(
            f"\n{len(rows):,} traces, {graded.stat().st_size / 2**20:.0f} MiB, mean "
            f"{sum(row['num_student_tokens'] for row in rows) / len(rows):,.0f} tokens; {len(rows[0]['measures'])} measures\n\n"
            "| measure | bar | measured |\n|---|---|---|\n"
            f"| curate | under 300 s | {seconds:.0f} s ({used.ru_utime + used.ru_stime:.0f} s of processor time) |\n| most memory, all processes | under 2 GB | {peak / 1e9:.2f} GB |"
        )


def overrides(model: Path) -> list[str]:
    from nemo_cot.traces.structure import measure_names

    names = ",".join(measure_names())
    filters = json.dumps(FILTERS).replace('"', "")
    return [
        "model=hf_directory", f"model.path={model}", "name=bench", "curate.num_traces=200", "curate.per_problem=10",
        "curate.min_tokens=1000", "curate.max_tokens=6000", "curate.target_tokens=3000", "curate.order=diverse",
        "curate.verdicts=[right,wrong]", "curate.verdict_mix={right:3,wrong:1}", "curate.pass_rate=[0.1,0.9]",
        f"curate.measures=[{names}]", f"curate.filters={filters}", "marks=mixed",
    ]  # fmt: skip


def measured(out: Path, inputs: dict[str, str], keys: list[str]) -> tuple[float, int]:
    """Seconds, and the most bytes held by the process and its children at one time."""
    script = out.parent / "work.py"
    script.write_text(WORK)
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, script, out, json.dumps(inputs), json.dumps(keys)])
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(held, family(process.pid))))
        time.sleep(0.25)
    if process.returncode:
        sys.exit(process.returncode)
    return time.monotonic() - started, peak


def family(pid: int) -> Iterator[int]:
    """``pid`` and all its descendants."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def held(pid: int) -> int:
    """Bytes: the process's own memory, and its part of what it shares."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:")), 0)


SYLLABLES = [
    a + b
    for a in ["b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "v", "w"]
    for b in ["a", "e", "i", "o", "u", "an", "er", "in", "or", "us"]
]
OPENINGS = [
    "Wait, ",
    "Hmm, ",
    "Let me check: ",
    "Alternatively, ",
    "So ",
    "Then ",
    "But ",
    "Now ",
    "First, ",
    "Therefore, ",
]
COMMON = [
    "the",
    "of",
    "is",
    "we",
    "that",
    "and",
    "to",
    "have",
    "for",
    "with",
    "this",
    "so",
    "if",
    "then",
    "each",
    "must",
    "be",
    "can",
    "not",
    "by",
    "number",
    "sum",
    "two",
]


def sentences(rng: random.Random, count: int) -> list[str]:
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(5000)]
    made = []
    for _ in range(count):
        body = [
            rng.choice(COMMON) if rng.random() < 0.5 else rng.choice(words) for _ in range(rng.randint(6, 22))
        ]
        if rng.random() < 0.4:
            body.insert(
                3,
                f"${rng.choice('abcxyz')}^{rng.randint(2, 9)} + {rng.randint(1, 999)} = {rng.randint(1, 9999)}$",
            )
        start = rng.choice(OPENINGS) if rng.random() < 0.35 else ""
        made.append(f"{start}{' '.join(body)}.")
    return made


def problems(rng: random.Random, count: int, name: str) -> Iterator[Problem]:
    made = sentences(rng, 3 * count)
    for number in range(count):
        text = " ".join(made[3 * number : 3 * number + 3])
        yield Problem(
            problem_id=f"{name}{number}",
            problem=text,
            expected_answer=str(number),
            subset_for_metrics=f"s{number % 5}",
        )


def traces(rng: random.Random, made: list[Problem], samples: int) -> Iterator[Trace]:
    pool = sentences(rng, 20_000)
    for problem in made:
        rate = rng.random()
        for sample in range(samples):
            count = max(8, round(rng.lognormvariate(4.45, 0.3)))
            own = [rng.choice(pool) for _ in range(count)]
            draw = rng.random()
            if draw < 0.03:
                own += [own[-1]] * count
            elif draw < 0.06:
                own[count // 2 : count // 2] = ["所以我们需要检查这个结果。"] * 10
            text = "".join(s + ("\n\n" if rng.random() < 0.4 else " ") for s in own)
            yield Trace.of(
                problem, sample=sample, generation=f"{text}\n\n**Final Answer**\n\n\\boxed{{{problem.expected_answer}}}",
                num_generated_tokens=3000, finish_reason="stop" if rng.random() < 0.95 else "length",
                verdict="right" if rng.random() < rate else "wrong", predicted_answer=problem.expected_answer,
                lineage=[{"made_by": "model"}],
            )  # fmt: skip


if __name__ == "__main__":
    main()
