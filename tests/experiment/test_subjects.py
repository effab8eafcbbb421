"""Evaluation of models that the run does not make: their own prompts, their own columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import EXTRA_CONF, load_config
from nemo_cot.experiment.graph import graph
from nemo_cot.experiment.planner import plan_chain
from nemo_cot.experiment.recipe import ONLY
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.launchers.compare import compare_command
from nemo_cot.launchers.slurm.jobs import ChainJob, chain_jobs
from tests.support import recipe_here, run_stages, tiny_experiment

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
    run = run_stages(overrides, "convert", "problems", "evaluate", "report")
    rows = [
        json.loads(t) for t in (run.stage("evaluate/other") / "generations.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 6 and {r["lineage"][0]["made_by"] for r in rows} == {"other"}
    assert max(r["num_generated_tokens"] for r in rows) <= 5
    scores = json.loads((run.stage("evaluate/scores") / "metrics.json").read_text())
    assert scores["subjects"].keys() == {"base", "other"} and scores["learning_effect"] == {}
    page = (run.stage("report") / "report.md").read_text()
    assert "this run: other" in page and "Samples of the other model" in page
    assert "evaluate/trained" not in page.partition("Not run:")[2]
    asked = json.loads((run.stage("evaluate/other") / "manifest.json").read_text())["config"]
    assert "Be right." in asked["model"]["prompt"] and asked["sampling"]["max_new_tokens"] == 5
    capsys.readouterr()
    assert compare_command([f"{run.path}:base", f"{run.path}:other"]) == 0
    told = capsys.readouterr().out
    assert "sampling differs in sampling.max_new_tokens: 12 (compare:base), 5 (compare:other)" in told
    assert "sampling differs in model.prompt" in told and told.count("warning:") == 3, "and the eos token"
    assert "3 problems" in told and "pass@2" in told


CHAIN = [
    "cluster=slurm_minimal",
    "launcher.stages=[problems,convert,generate,grade,curate,pack,train,evaluate,report]",
]
THREE = "evaluate.subjects=[base,other,trained]"


def jobs_of(overrides: list[str]) -> dict[str, ChainJob]:
    """The jobs of evaluate, and of what comes before, by key."""
    cfg = load_config(overrides)
    chain = graph(cfg)
    return {job.key: job for job in chain_jobs(cfg, chain, plan_chain(chain, run_directory(cfg)))}


SAMPLED = ("convert", "problems")
TRAINED = ("train", "problems")


@pytest.mark.parametrize("changed, expected", [
    (["evaluate.subjects=[base,trained]"], {
        "evaluate-base": SAMPLED, "evaluate-trained": TRAINED, "evaluate-scores-early": ("evaluate-base",),
        "evaluate-scores": ("evaluate-base", "evaluate-trained", "evaluate-scores-early"),
    }),
    ([THREE], {
        "evaluate-base": SAMPLED, "evaluate-other": ("problems",), "evaluate-trained": TRAINED,
        "evaluate-scores-early": ("evaluate-base", "evaluate-other"),
        "evaluate-scores": ("evaluate-base", "evaluate-other", "evaluate-trained", "evaluate-scores-early"),
    }),
    (["evaluate.subjects=[base,other]", "evaluate.chunks=2"], {
        "evaluate-base-chunks": SAMPLED, "evaluate-base": (*SAMPLED, "evaluate-base-chunks"),
        "evaluate-other-chunks": ("problems",), "evaluate-other": ("problems", "evaluate-other-chunks"),
        "evaluate-scores": ("evaluate-base", "evaluate-other"),
    }),
])  # fmt: skip
def test_a_job_waits_for_what_its_stage_reads_and_the_training_holds_up_none_but_its_own(
    changed, expected, overrides
):
    """No two jobs at once work on one stage; and there are scores should the training fail."""
    jobs = jobs_of([*overrides, *CHAIN, *changed])
    assert {key: job.after for key, job in jobs.items() if job.recipe == "evaluate"} == expected
    assert jobs["report"].after_any and jobs["report"].after == tuple(key for key in jobs if key != "report")


def test_what_the_training_has_not_to_be_waited_for_is_scored_and_nothing_sampled_again(overrides):
    chain = [*overrides, *CHAIN, THREE]
    early = jobs_of(chain)["evaluate-scores-early"]
    run = run_stages(chain, *SAMPLED)
    for stage in ("evaluate/base", "evaluate/other"):
        done = recipe_here("evaluate", *chain, ONLY, stage)
        assert done.returncode == 0, done.stderr
    done = recipe_here("evaluate", *chain, ONLY, early.stage, *early.overrides)
    assert done.returncode == 0, done.stderr
    scores = json.loads((run.stage("evaluate/scores") / "metrics.json").read_text())
    assert scores["subjects"].keys() == {"base", "other"}
    left = [key for key, job in jobs_of(chain).items() if job.recipe == "evaluate"]
    assert left == ["evaluate-trained", "evaluate-scores"], "after the training's failure"


@pytest.mark.parametrize("changed, where", [
    ("evaluate.subjects=[base,nobody]", "evaluate.subjects"),
    ("evaluate.models.other.prompt='no place'", "evaluate.models.other.prompt"),
    ("evaluate.models.other.path=/none", "evaluate.models.other.path"),
    ("evaluate.models.third.path=/none", "evaluate.models"),
    ("evaluate.models.other.pth=/none", "evaluate.models.other.pth"),
])  # fmt: skip
def test_what_is_wrong_with_a_model_is_named(changed, where, overrides):
    with pytest.raises(UserError) as caught:
        run_stages([*overrides, changed], "convert", "problems", "evaluate")
    assert where in caught.value.where


@pytest.mark.parametrize("name", ["base", "scores", "a/b", "a.partial-1", "..", "-x"])
def test_a_name_that_could_be_another_folder_is_refused(name, overrides, tmp_path):
    path = tmp_path / "conf" / "experiment" / "compare.yaml"
    text = EXPERIMENT.replace("path: ???", "path: /x").replace("    other:", f"    {name!r}:")
    path.write_text(text.replace("base, other", "trained"))
    with pytest.raises(UserError) as caught:
        load_config([o for o in overrides if "models.other" not in o])
    assert "evaluate.models" in caught.value.where


# ---- kept models


def test_every_kept_model_is_scored_and_makes_a_curve(tiny_model, tmp_path):
    tiny = [*tiny_experiment(tiny_model, tmp_path / "runs"), "train.keep_checkpoints=true", "train.save_interval_steps=2"]
    tiny += ["evaluate.subjects=[base,trained,checkpoints]", "train.max_steps=5", "evaluate.token_budgets=[4,12]", "evaluate.over_budget=found"]
    run = run_stages(tiny, "convert", "problems", "generate", "grade", "curate", "pack", "train", "evaluate", "report")
    scores = json.loads((run.stage("evaluate/scores") / "metrics.json").read_text())
    assert list(scores["subjects"]) == ["base", "trained", "trained@2", "trained@4"]
    assert [point["step"] for point in scores["over_steps"]] == [0, 2, 4, 5]
    for point, name in zip(scores["over_steps"], ("base", "trained@2", "trained@4", "trained")):
        figure = scores["subjects"][name]["lenient"]
        assert [point[key] for key in ("value", "low", "high")] == [figure[key] for key in ("value", "low", "high")]
    assert [p["tokens"] for p in scores["subjects"]["trained@2"]["curves"]["budget_pass_at_1"]] == [4, 12]
    rows = [json.loads(t) for t in (run.stage("evaluate/trained@4") / "generations.jsonl").read_text().splitlines()]
    assert {row["lineage"][0]["made_by"] for row in rows} == {"trained@4"}
    assert (run.stage("train") / "checkpoints/step-2/tokenizer.json").is_file()
    page = (run.stage("report") / "report.md").read_text()
    assert "trained@2" in page


@pytest.mark.parametrize("given, what", [
    (["evaluate.subjects=[checkpoints]"], "training keeps no models but the last"),
    (["evaluate.subjects=[base,trained@7]", "train.keep_checkpoints=true"], "training keeps trained@5"),
    (["evaluate.subjects=[checkpoints]", "train.keep_checkpoints=true", "train.save_interval_steps=20"], "no models"),
    (["evaluate.subjects=[trained@0]"], "is not one of"), (["evaluate.subjects=[trained@]"], "is not one of"),
])  # fmt: skip
def test_a_model_that_is_not_kept_is_named_with_those_that_are(given, what):
    with pytest.raises(UserError, match=what) as caught:
        graph(load_config(given))
    assert caught.value.where == "evaluate.subjects" and caught.value.fix


def test_the_chain_of_a_kept_model_is_sampled_after_training():
    stages = graph(load_config(["evaluate.subjects=[trained@5]", "train.keep_checkpoints=true"])).stages
    assert stages["evaluate/trained@5"].needs == ("train", "problems") and stages["train"].config["checkpoints"] == [5]
    assert "checkpoints" not in graph(load_config([])).stages["train"].config
