"""What docs/extending.md promises: how many files an addition takes, each shown by adding one to a copy of the code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, environment, tiny_experiment


class Copy:
    """A copy of the repository, without its history, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("conf", "nemo_cot", "recipes", "launchers"):
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))

    def add(self, **files: str) -> None:
        """New files, by path with __ for a slash; none may be there."""
        for name, content in files.items():
            path = self.folder / name.replace("__", "/").replace("_dot_", ".")
            assert not path.exists(), f"{path} would be edited, not added"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def __call__(self, *arguments: object, config_dir: Path | None = None, fails: int = 0) -> str:
        """What the command prints. Asserts that it ends with the exit code ``fails``."""
        more = {"NEMO_COT_CONFIG_DIR": str(config_dir)} if config_dir else {}
        done = subprocess.run(
            [sys.executable, "-m", "nemo_cot.launchers.cli", *map(str, arguments)],
            env={**environment(COLUMNS="200", **more), "PYTHONPATH": str(self.folder)},
            cwd=self.folder.parent, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == fails, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


@pytest.fixture
def tiny(packed: Path, tiny_model: Path, tmp_path: Path) -> list[str]:
    """Overrides of a run that is done up to the packs."""
    shutil.copytree(packed, tmp_path / "runs" / "tiny")
    return tiny_experiment(tiny_model, tmp_path / "runs")


RECIPE = '''"""count: how often a word occurs in the chosen traces."""

from nemo_cot.config.checks import fingerprinted
from nemo_cot.counting import CountConfig, count_word
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.stages import Output, Stage

CONFIG = CountConfig


def count(cfg):
    def work(folder, inputs):
        (folder / "count.json").write_text(str(count_word(inputs["traces"], cfg.count)))

    yield Stage(
        "count",
        inputs={"traces": Output("curate", "traces.jsonl")},
        config={"count": fingerprinted(cfg.count)},
        work=work,
        writes=("count.json",),
    )


if __name__ == "__main__":
    recipe_main(count)
'''
LIBRARY = '''"""Count a word."""

from dataclasses import dataclass

from nemo_cot.config.checks import one_of


@dataclass
class CountConfig:
    word: str

    def __post_init__(self):
        one_of("count.word", self.word, ("check", "wait"))


def count_word(traces, config):
    return traces.read_text().count(config.word)
'''


def test_a_stage_is_three_files_and_is_found_everywhere(copy: Copy, tiny: list[str], tmp_path: Path):
    copy.add(
        recipes__count_dot_py=RECIPE, nemo_cot__counting_dot_py=LIBRARY, conf__count__default_dot_yaml="word: check\n"
    )
    assert "count:\n  word: check\n" in copy("show", *tiny)
    rows = [line for line in copy("plan", *tiny).splitlines() if line.startswith("│ ")]
    stages = [row.split()[1] for row in rows if len(row.split("│")) == 5]
    assert stages.index("curate") < stages.index("count") < stages.index("report")
    dry_run = copy("submit", *tiny, "cluster=slurm_minimal", "--dry-run")
    assert any(row.split("│")[1].strip() == "count" for row in dry_run.splitlines() if row.startswith("│"))
    out = copy("run", *tiny, "launcher.stages=[count,report]", "count.word=wait")
    assert "[count] runs" in out and (tmp_path / "runs/tiny/count/count.json").read_text().isdigit()
    assert "count" in copy("status", *tiny)
    assert "count.word: wait -> check" in copy("plan", *tiny)
    report = (tmp_path / "runs/tiny/report/report.md").read_text()
    assert "| count |" in report, "the report shows its manifest"


FILTER = '''"""initial: leave out traces that begin with a letter."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Filter:
    letter: str

    def drops(self, trace, length):
        return trace.generation.startswith(self.letter)
'''


def test_a_filter_is_one_file(copy: Copy, tiny: list[str], tmp_path: Path):
    copy.add(nemo_cot__traces__filters__initial_dot_py=FILTER)
    traces = tmp_path / "runs/tiny/curate/traces.jsonl"
    letter = json.loads(traces.read_text().splitlines()[0])["generation"][0]
    filters = f"curate.filters.initial.letter={letter}"
    done = copy("run", *tiny, "launcher.stages=[curate]", filters, fails=2)
    assert "only 0 of 4 traces are left" in done and "initial " in done, "all of them begin alike"


SET = """\
defaults:
  - file
  - _self_
columns:
  problem: question
  generation: worked_solution
  kept: [annotator]
"""


def test_a_set_of_traces_is_one_file(copy: Copy, tiny: list[str], tmp_path: Path):
    copy.add(conf__teacher__my_set_dot_yaml=SET)
    problem = json.loads((tmp_path / "runs/tiny/problems/train.jsonl").read_text().splitlines()[0])
    row = {"question": problem["problem"], "worked_solution": "so", "annotator": "B"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row) + "\n")
    one = [*tiny, "launcher.stages=[generate]", f"teacher.path={tmp_path / 'mine.jsonl'}"]
    assert "teacher=my_set has these columns" in copy("run", *one, "teacher=file", fails=2)
    copy("run", *one, "teacher=my_set")
    (trace,) = map(json.loads, (tmp_path / "runs/tiny/generate/generations.jsonl").read_text().splitlines())
    assert trace["generation"] == "so" and trace["lineage"][0]["source"] == {"annotator": "B"}


TRANSFORM = '''"""shout: the thought in capitals."""

from dataclasses import dataclass

from nemo_cot.traces.transforms import Edit


@dataclass(frozen=True)
class Transform:
    dose: float
    mark: str = "!"

    def edit(self, trace, parts, site):
        if site.draw.random() >= self.dose:
            return Edit(trace.generation, {"shouted": 0})
        return Edit(parts.with_thought(parts.thought.upper() + self.mark), {"shouted": 1})
'''


def test_a_transform_is_one_file(copy: Copy, tiny: list[str], tmp_path: Path):
    copy.add(nemo_cot__traces__transforms__shout_dot_py=TRANSFORM)
    steps = ["transform.steps=[{name: shout, dose: 1}]", "pack.capacity_tokens=2000"]
    assert "mark" in copy("show", *tiny, "transform.steps=[{name: shout, dose: 1, mrk: x}]", fails=2)
    out = copy("run", *tiny, "launcher.stages=[transform,pack]", *steps)
    assert "[transform] runs" in out and "4 of 4 traces changed" in out and "[pack] runs" in out
    rows = [json.loads(line) for line in (tmp_path / "runs/tiny/transform/traces.jsonl").read_text().splitlines()]
    last = rows[0]["lineage"][-1]
    assert last == {"transformed_by": "shout", "seed": 19, "dose": 1.0, "mark": "!", "shouted": 1}
    assert rows[0]["generation"].startswith("START AT")
    assert "[pack] done" in copy("run", *tiny, "launcher.stages=[transform,pack]", *steps)
    assert "[pack] runs" in copy("run", *tiny, "launcher.stages=[transform,pack]"), "without it, of curate's traces again"


SCORER = '''"""length: as many characters as the expected answer, or nearly."""

from dataclasses import dataclass

from nemo_cot.grading.scorers import Scoring
from nemo_cot.grading.verdict import RIGHT, WRONG, Verdict


@dataclass(frozen=True)
class Scorer(Scoring):
    off_by: int = 0

    def verdict(self, gold, answer):
        right = abs(len(gold) - len(answer)) <= self.off_by
        return Verdict(RIGHT if right else WRONG, "length")
'''


def test_a_scorer_is_one_file(copy: Copy, tmp_path: Path):
    copy.add(nemo_cot__grading__scorers__length_dot_py=SCORER)
    row = {"problem": "p", "expected_answer": "abc", "scorer": "length", "generation": "\\boxed{xyzw}"}
    rows = [row, row | {"scorer_data": {"off_by": 1}, "problem": "q"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    assert "right 1, wrong 1" in copy("grade", tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    graded = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [each["grader_version"] for each in graded] == ["nemo-cot length 1"] * 2
    files = [f"problems.{label}_path={tmp_path / 'in.jsonl'}" for label in ("train", "heldout")]
    shown = copy("show", "problems=file", *files, "problems.scorer=length")
    assert "scorer: length" in shown
    assert "choose one" in copy("show", "problems=file", *files, "problems.scorer=lenght", fails=2)


def test_an_experiment_is_one_file(copy: Copy):
    copy.add(conf__experiment__mine_dot_yaml="# @package _global_\nname: mine\ntrain:\n  max_steps: 7\n")
    assert "max_steps: 7" in copy("show", "experiment=mine")


def test_a_cluster_is_one_file_outside_of_the_repository(copy: Copy, tiny: list[str], tmp_path: Path):
    profile = tmp_path / "own" / "cluster" / "mine.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text("defaults:\n  - slurm_minimal\n  - _self_\npartition: mine\n")
    copy("submit", *tiny, "cluster=mine", "--dry-run", config_dir=tmp_path / "own")
    scripts = list((tmp_path / "runs/tiny/slurm/dry-run").glob("*.sbatch"))
    assert scripts and all("#SBATCH --partition=mine" in script.read_text() for script in scripts)
    assert os.environ.get("NEMO_COT_CONFIG_DIR") is None
