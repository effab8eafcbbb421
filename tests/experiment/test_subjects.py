"""Evaluation of models that the run does not make: their own prompts, their own columns."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from nemo_cot.config import EvaluateConfig
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import EXTRA_CONF, load_config
from nemo_cot.experiment.graph import chain_stages
from nemo_cot.experiment.recipe import run_directory
from nemo_cot.launchers.compare import compare_command
from nemo_cot.launchers.slurm.jobs import ChainJob, chain_jobs
from nemo_cot.recipes.convert import convert
from nemo_cot.recipes.evaluate import evaluate
from nemo_cot.recipes.problems import problems
from nemo_cot.recipes.report import report
from nemo_cot.sampling.chunks import GENERATIONS, chunk_stage
from nemo_cot.stages import RunDirectory, run_stage
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


CHAIN = [
    "cluster=slurm_minimal",
    "launcher.stages=[problems,convert,generate,grade,curate,pack,train,evaluate,report]",
]
THREE = "evaluate.subjects=[base,other,trained]"


@pytest.mark.parametrize("changed, keys", [
    (["evaluate.subjects=[base,trained]"], ["evaluate-base", "evaluate"]),
    ([THREE], ["evaluate-base", "evaluate-other", "evaluate-scores", "evaluate"]),
    ([THREE, "evaluate.chunks=2"],
     ["evaluate-base-chunks", "evaluate-other-chunks", "evaluate-trained-chunks", "evaluate"]),
    (["evaluate.subjects=[base,other]"], ["evaluate"]),
])  # fmt: skip
def test_no_two_jobs_at_once_work_on_the_same_stage(changed, keys, overrides):
    """And each works on what its own overrides make of the recipe."""
    cfg = load_config([*overrides, *CHAIN, *changed])
    run = run_directory(cfg).create()
    jobs = {job.key: job for job in chain_jobs(cfg, run, chain_stages(cfg))}
    assert [key for key in jobs if key.startswith("evaluate")] == keys
    for one, other in itertools.combinations(jobs, 2):
        if not {one, other} & (_before(one, jobs) | _before(other, jobs)):
            assert not set(_works_on(jobs[one])) & set(_works_on(jobs[other])), (one, other)
    list(_run(problems, cfg, run))
    list(_run(convert, cfg, run))
    _pretend_done(run, cfg.evaluate)
    for key in keys:
        task = [f"evaluate.chunk={jobs[key].array[0]}"] if jobs[key].array else []
        made = evaluate(load_config([*overrides, *CHAIN, *changed, *jobs[key].overrides, *task]), run)
        names = [stage.name for stage in made]
        chunks = {chunk_stage(name, n) for name in _works_on(jobs[key]) for n in range(2)}
        if task:
            assert names == [f"{name}/chunk-000" for name in _works_on(jobs[key])]
        else:
            assert [name for name in names if name not in chunks] == _works_on(jobs[key])


def _works_on(job: ChainJob) -> list[str]:
    return list(job.works_on) or [job.stage]


def _before(key: str, jobs: dict[str, ChainJob]) -> set[str]:
    """All jobs that have ended when ``key`` starts."""
    return {name for after in jobs[key].after for name in (after, *_before(after, jobs))}


def _pretend_done(run: RunDirectory, settings: EvaluateConfig) -> None:
    """The files that evaluate's stages read, with nothing in them."""
    (run.stage("train") / "model").mkdir(parents=True)
    for subject in settings.subjects:
        sampled = f"evaluate/{subject}"
        for name in (sampled, *(chunk_stage(sampled, n) for n in range(settings.chunks))):
            run.stage(name).mkdir(parents=True, exist_ok=True)
            (run.stage(name) / GENERATIONS).touch()


def test_what_training_has_not_to_be_waited_for_is_scored_once_all_of_it_is_sampled(overrides):
    """In two jobs that only sample, at once; then the scores, which the report has should the training fail."""
    cfg = load_config([*overrides, *CHAIN, THREE])
    run = run_directory(cfg).create()
    jobs = {job.key: job for job in chain_jobs(cfg, run, chain_stages(cfg))}
    assert jobs["evaluate-base"].after == jobs["evaluate-other"].after == ("problems", "convert")
    assert jobs["evaluate-scores"].after == ("evaluate-base", "evaluate-other")
    assert jobs["evaluate"].after[-3:] == ("evaluate-base", "evaluate-other", "evaluate-scores")
    assert jobs["evaluate-scores"].work == "merge" and jobs["evaluate"].work == "evaluate"
    for make in (problems, convert):
        list(_run(make, cfg, run))
    for key in ("evaluate-base", "evaluate-other", "evaluate-scores"):
        list(_run(evaluate, load_config([*overrides, *CHAIN, THREE, *jobs[key].overrides]), run))
        assert (run.stage("evaluate/scores") / "metrics.json").exists() == (key == "evaluate-scores")
    scores = json.loads((run.stage("evaluate/scores") / "metrics.json").read_text())
    assert scores["subjects"].keys() == {"base", "other"}
    left = [job.key for job in chain_jobs(cfg, run, chain_stages(cfg)) if job.stage == "evaluate"]
    assert left == ["evaluate"], "after the training's failure: nothing is sampled again"


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
