"""The recipes in a Python with the light core alone, as /opt/nemo-cot/venv of the images, where torch is not."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import graph, recipe_names
from nemo_cot.preflight import preflight
from nemo_cot.preflight.estimate import estimate
from tests.models.headers import LLAMA, write_holes
from tests.support import ROOT, one_error, python, recipe, write_lines
from tests.tiny import END, EOS, START, write_tiny_tokenizer

ABSENT = {
    "torch", "transformers", "accelerate", "safetensors", "gguf", "reasoning_gym", "tensorboard", "nemo",
    "nemo_rl", "nemo_aligner", "nemo_skills", "vllm", "trl", "scipy", "pandas", "fastapi", "openai",
}  # fmt: skip
BLOCK = f"""\
import sys

class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {sorted(ABSENT)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} in the light core", name=name)

sys.meta_path.insert(0, Absent)
import importlib.util
_find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in {sorted(ABSENT)!r} else _find(name, *a)
"""
LAZY = ("nemo_cot.training.nemo_aligner.prepare", "nemo_cot.training.nemo_aligner.packed_file", "nemo_cot.training.nemo_aligner.verify", "nemo_cot.training.nemo_rl.data",
        "nemo_cot.training.nemo_rl.render", "nemo_cot.training.nemo_rl.command", "nemo_cot.models.average", "nemo_cot.sampling.nemo_skills.run",
        "nemo_cot.sampling.openai.endpoint", "nemo_cot.launchers.slurm.submit")  # fmt: skip
"""What the recipes import while they work, and submit."""


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PYTHONPATH of processes in which only the core can be imported."""
    folder = tmp_path_factory.mktemp("core")
    (folder / "sitecustomize.py").write_text(BLOCK)
    return os.pathsep.join([str(folder), str(ROOT)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory with weights that nothing here may load."""
    folder = tmp_path_factory.mktemp("model")
    heads = {"hidden_size": 16, "num_attention_heads": 8, "num_key_value_heads": 8}  # for eight GPUs
    return write_holes(folder, {**LLAMA, **heads, "vocab_size": write_tiny_tokenizer(folder)}, tokenizer=None)


def test_what_is_absent_here_is_absent_in_the_lock():
    lock = (ROOT / "requirements/core.lock.txt").read_text()
    locked = {name.replace("-", "_").lower() for name in re.findall(r"^([\w.-]+)==", lock, re.M)}
    assert locked and not locked & ABSENT


def test_every_recipe_and_what_it_imports_later_is_imported(core):
    assert all(importlib.util.find_spec(name) for name in LAZY)
    modules = [f"nemo_cot.recipes.{stage}" for stage in recipe_names()]
    code = f"import importlib\nfor name in {[*modules, *LAZY]!r}: importlib.import_module(name)\nprint('all')"
    done = python("-c", code, PYTHONPATH=core)
    assert (done.returncode, done.stdout) == (0, "all\n"), done.stderr
    assert python("-c", "import torch", PYTHONPATH=core).returncode == 1, "the block blocks"


@pytest.fixture
def overrides(tmp_path: Path, model: Path) -> list[str]:
    rows = [{"problem_id": f"p{n}", "problem": f"{n} + 1 =", "expected_answer": str(n + 1)} for n in range(4)]
    traces = [
        {
            **row,
            "generation": f"{row['problem']} " + "and then " * 20 + f"\\boxed{{{row['expected_answer']}}}",
        }
        for row in rows[:3]
    ]
    return [
        "problems=file", f"problems.train_path={write_lines(tmp_path / 'a.jsonl', rows[:3])}",
        f"problems.heldout_path={write_lines(tmp_path / 'b.jsonl', rows[3:])}", "teacher=file",
        f"teacher.path={write_lines(tmp_path / 't.jsonl', traces)}", "model=hf_directory", f"model.path={model}",
        f"model.eos_token='{EOS}'", f"model.end_of_turn='{END}'", f"model.prompt='{START}{{problem}}{END}'",
        "curate.num_traces=2", "curate.min_tokens=5", "curate.max_tokens=400", "curate.target_tokens=50",
        "grade.workers=1", "train=nemo_aligner", "train/layout=qwen2.5_7b", "evaluate.engine=nemo_skills",
        f"runs_dir={tmp_path / 'runs'}", "name=core",
    ]  # fmt: skip


CHAIN = """\
import sys
from tests.support import recipe_here

for name in ("convert", "problems", "generate", "grade", "curate", "pack"):
    done = recipe_here(name, *sys.argv[1:])
    if done.returncode:
        sys.exit(done.stderr)
"""
"""In one process: half a minute less."""


def test_the_recipes_up_to_packing_run_without_torch(core, overrides, tmp_path):
    done = python("-c", CHAIN, *overrides, PYTHONPATH=core)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs/core/convert/model.json").read_text())["eos_id"]
    assert (tmp_path / "runs/core/pack/sequences.jsonl").read_text()
    missing = recipe("hf_to_nemo", *overrides, "train.python=/no/such/python", PYTHONPATH=core)
    one_error(missing, "cannot be imported by /no/such/python", "training container")


def test_a_recipe_that_needs_torch_says_so_at_once_and_the_others_run(core, overrides):
    local = [o for o in overrides if not o.startswith(("train", "evaluate"))]
    one_error(recipe("train", *local, PYTHONPATH=core), "packages_installed", "torch is not installed")
    assert recipe("problems", *local, PYTHONPATH=core).returncode == 0


@pytest.mark.parametrize("engine, stages", [("embedded", {"train", "evaluate"}), ("nemo_skills", {"train"})])
def test_only_stages_that_load_a_model_want_torch(engine, stages, overrides, monkeypatch):
    local = [o for o in overrides if not o.startswith(("train", "evaluate"))]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name in ABSENT else name)
    cfg = load_config([*local, f"evaluate.engine={engine}"])
    cost = estimate(cfg, None, 30)
    levels = {s: {f.rule: f.level for f in preflight(cfg, cost, graph(cfg).kinds, stage=s)} for s in recipe_names()}
    wanting = {s for s, found in levels.items() if found.get("packages_installed") == "error"}
    assert wanting == stages
