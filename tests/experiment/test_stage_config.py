"""A stage that brings a config group of its own: a recipe with CONFIG and a folder of conf, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support import ROOT, python

RECIPE = '''
"""polish: of a test."""
from dataclasses import dataclass

from nemo_cot.config.checks import at_least, runtime


@dataclass
class PolishConfig:
    passes: int
    words: list[str]
    workers: int = runtime()

    def __post_init__(self) -> None:
        at_least("polish.passes", self.passes, 0)


CONFIG = PolishConfig
'''
CODE = """
import json, sys
from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import compose_config, known_keys, load_config, to_dataclasses, to_yaml
from nemo_cot.experiment.existing import find_run
from pathlib import Path

def passes_of(*overrides):
    try:
        return load_config(overrides).polish.passes
    except UserError as error:
        return str(error)

cfg = load_config([])
run = Path("runs/old")
run.mkdir(parents=True)
tree = compose_config(["name=old", "polish.passes=9"])
(run / "config.yaml").write_text(to_yaml(tree))
kept = find_run(["name=old"])[0]
del tree.__dict__["_content"]["polish"]
(run / "config.yaml").write_text(to_yaml(tree))
print(json.dumps({
    "typed": isinstance(cfg, Config) and type(cfg.polish).__module__,
    "default": cfg.polish.passes,
    "override": passes_of("polish.passes=7"),
    "choice": passes_of("polish=twice"),
    "experiment": passes_of("experiment=polished"),
    "over the experiment": passes_of("experiment=polished", "polish.passes=4"),
    "choice of an experiment": passes_of("experiment=polished_twice"),
    "known": sorted(k for k in known_keys() if k.startswith("polish")),
    "nearest": passes_of("polish.pases=1"),
    "type": passes_of("polish.passes=many"),
    "check": passes_of("polish.passes=-1"),
    "option": passes_of("polish=twise"),
    "fingerprint": fingerprinted(cfg)["polish"],
    "kept": kept.polish.passes,
    "before the stage": find_run(["name=old"])[0].polish.passes,
    "imported": sorted(name for name in sys.modules if name.startswith("nemo_cot.recipes.")),
}))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the stage polish."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("nemo_cot", "conf", "recipes", "launchers"):
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "recipes/polish.py").write_text(RECIPE)
    (root / "conf/polish").mkdir()
    (root / "conf/polish/default.yaml").write_text("passes: 1\nwords: [wait]\nworkers: 2\n")
    (root / "conf/polish/twice.yaml").write_text("defaults: [default, _self_]\npasses: 2\n")
    for name, text in {
        "polished": "polish: {passes: 3}\n",
        "polished_twice": "defaults: [override /polish: twice, _self_]\npolish: {words: [so]}\n",
    }.items():
        (root / f"conf/experiment/{name}.yaml").write_text(f"# @package _global_\n{text}")
    return root


def test_its_group_is_composed_typed_known_and_fingerprinted(tree, tmp_path):
    done = python("-c", CODE, cwd=tmp_path, PYTHONPATH=str(tree))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {key: found[key] for key in ("nearest", "type", "check", "option")} == {
        "nearest": "polish.pases: unknown key. Fix: did you mean polish.passes?",
        "type": "polish.passes: many is not an integer. Fix: give an integer, such as 1000",
        "check": "polish.passes: -1 is below 0. Fix: set polish.passes to 0 or more",
        "option": found["option"],
    }
    assert "did you mean polish=twice?" in found["option"]
    assert {key: value for key, value in found.items() if key not in ("nearest", "type", "check", "option")} == {
        "typed": "nemo_cot.recipes.polish", "default": 1, "override": 7, "choice": 2, "experiment": 3, "over the experiment": 4,
        "choice of an experiment": 2, "known": ["polish", "polish.passes", "polish.words", "polish.workers"],
        "fingerprint": {"passes": 1, "words": ["wait"]}, "kept": 9, "before the stage": 1,
        "imported": ["nemo_cot.recipes.polish"],
    }  # fmt: skip


def test_show_prints_it(tree, tmp_path):
    done = python("-m", "nemo_cot.launchers.cli", "show", "polish=twice", cwd=tmp_path, PYTHONPATH=str(tree))
    assert "polish:\n  passes: 2\n  words:\n  - wait\n  workers: 2\ncluster:\n  scheduler: none\n" in done.stdout, done.stderr


def test_without_values_in_conf_it_says_where_they_belong(tree, tmp_path):
    shutil.move(tree / "conf/polish", tmp_path / "polish")
    try:
        done = python("-m", "nemo_cot.launchers.cli", "show", cwd=tmp_path, PYTHONPATH=str(tree))
    finally:
        shutil.move(tmp_path / "polish", tree / "conf/polish")
    assert done.returncode == 2 and "polish/default" in done.stderr and "Traceback" not in done.stderr
