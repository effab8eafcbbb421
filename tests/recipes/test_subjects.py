"""Evaluation of models that the run does not make: their own prompts, their own columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launchers.compare import compare_command
from nemo_cot.errors import UserError
from nemo_cot.stages import RunDirectory, run_stage
from recipes.config import EXTRA_CONF, load_config
from recipes.convert import convert
from recipes.evaluate import evaluate
from recipes.main import run_directory
from recipes.problems import problems
from recipes.report import report
from tests.support import tiny_experiment

EXPERIMENT = """# @package _global_
name: compare
evaluate:
  subjects: [base, other]
  models:
    other:
      path: ???
      prompt: "<|im_start|>system\\nBe right.<|im_end|>\\n<|im_start|>user\\n{problem}<|im_end|>\\n<|im_start|>assistant\\n"
      end_of_turn: <|im_end|>
      eos_token: null
      max_new_tokens: 5
      max_model_len: 64
launcher:
  stages: [problems, convert, evaluate, report]
"""


@pytest.fixture
def overrides(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "compare.yaml").write_text(EXPERIMENT)
    monkeypatch.setenv(EXTRA_CONF, str(tmp_path / "conf"))
    tiny = tiny_experiment(tiny_model, tmp_path / "runs", name="compare")
    return ["experiment=compare", *tiny, f"evaluate.models.other.path={tiny_model}"]


def test_another_model_is_sampled_scored_reported_and_compared(overrides, capsys):
    cfg = load_config(overrides)
    run = run_directory(cfg).create()
    names = [s.name for make in (problems, convert, evaluate, report) for s in _run(make, cfg, run)]
    assert names == ["problems", "convert", "evaluate/base", "evaluate/other", "evaluate/scores", "report"]
    rows = [
        json.loads(t) for t in (run.stage("evaluate/other") / "generations.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 6 and {r["lineage"][0]["made_by"] for r in rows} == {"other"}
    assert max(r["num_generated_tokens"] for r in rows) <= 5
    scores = json.loads((run.stage("evaluate/scores") / "metrics.json").read_text())
    assert scores["subjects"].keys() == {"base", "other"} and scores["learning_effect"] == {}
    page = (run.stage("report") / "report.md").read_text()
    assert "here: other" in page and "Samples of the other model" in page
    assert "evaluate/trained" not in page.partition("Not run:")[2]
    asked = json.loads((run.stage("evaluate/other") / "manifest.json").read_text())["config"]
    assert "Be right." in asked["model"]["prompt"] and asked["sampling"]["max_new_tokens"] == 5
    capsys.readouterr()
    assert compare_command([f"{run.path}:base", f"{run.path}:other"]) == 0
    told = capsys.readouterr().out
    assert "sampling differs in sampling.max_new_tokens: 12 (compare:base), 5 (compare:other)" in told
    assert "sampling differs in model.prompt" in told and told.count("warning:") == 3, "and the eos token"
    assert "3 problems" in told and "pass@2" in told


def _run(make, cfg, run: RunDirectory):
    for stage in make(cfg, run):
        run_stage(stage, run, say=lambda line: None)
        yield stage


@pytest.mark.parametrize("changed, where", [
    ("evaluate.subjects=[base,nobody]", "evaluate.subjects"),
    ("evaluate.models.other.prompt='no place'", "evaluate.models.other.prompt"),
    ("evaluate.models.other.path=/none", "evaluate.models.other.path"),
    ("evaluate.models.third.path=/none", "evaluate.models"),
    ("evaluate.models.other.pth=/none", "evaluate.models.other.pth"),
])  # fmt: skip
def test_what_is_wrong_with_a_model_is_named(changed, where, overrides):
    with pytest.raises(UserError) as caught:
        cfg = load_config([*overrides, changed])
        run = run_directory(cfg).create()
        for make in (problems, convert, evaluate):
            list(_run(make, cfg, run))
    assert where in caught.value.where


@pytest.mark.parametrize("name", ["base", "scores", "a/b", "a.partial-1", "..", "-x"])
def test_a_name_that_could_be_another_folder_is_refused(name, overrides, tmp_path):
    path = tmp_path / "conf" / "experiment" / "compare.yaml"
    text = EXPERIMENT.replace("path: ???", "path: /x").replace("    other:", f"    {name!r}:")
    path.write_text(text.replace("base, other", "trained"))
    with pytest.raises(UserError) as caught:
        load_config([o for o in overrides if "models.other" not in o])
    assert caught.value.where == "evaluate.models"
