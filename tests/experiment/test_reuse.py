"""`reuse`: which runs are meant, what is adopted before jobs are made, and what would be replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nemo_cot.experiment.reuse import adopt_chain, reused_runs, say_replaced

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.examine import examine, refuse_errors
from nemo_cot.experiment.graph import chain_stages
from nemo_cot.experiment.recipe import run_directory
from nemo_cot.launchers.plan import stage_actions
from nemo_cot.launchers.slurm.jobs import chain_jobs
from nemo_cot.recipes.evaluate import evaluate
from nemo_cot.stages import RunDirectory, run_stage
from nemo_cot.stages.manifest import read_manifest
from tests.support import tiny_experiment

PACKED = ["problems", "convert", "generate", "grade", "curate", "pack"]


@pytest.fixture
def runs(packed: Path, tmp_path: Path) -> Path:
    """A folder of runs with one of them: tiny, done up to the packs."""
    shutil.copytree(packed, tmp_path / "runs" / "tiny")
    return tmp_path / "runs"


@pytest.fixture
def ablation(runs: Path, tiny_model: Path) -> list[str]:
    """Another training on the same traces."""
    return [*tiny_experiment(tiny_model, runs, name="ablation"), "train.optim.lr=5e-4", "reuse=[tiny]"]


def opened(overrides: list[str]) -> tuple[Config, RunDirectory]:
    cfg = load_config(overrides)
    return cfg, run_directory(cfg)


def test_names_are_runs_beside_this_one_and_paths_are_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cfg, run = opened(["name=a", "runs_dir=runs", "reuse=[b,./c,/d/e,'~/f',a]"])
    expected = [tmp_path / "runs/b", tmp_path / "c", Path("/d/e"), tmp_path / "home/f", tmp_path / "runs/a"]
    assert list(reused_runs(cfg).values()) == expected
    assert [other.path for other in run.reuse] == expected[:-1], "a run does not adopt from itself"


def test_a_run_that_is_not_there_is_named(ablation):
    cfg, run = opened([*ablation, "reuse=[tiny,tinny]"])
    with pytest.raises(UserError) as caught:
        refuse_errors(examine(cfg, run)[1])
    assert "reuse=tinny" in caught.value.what and "runs_dir" in caught.value.fix


@pytest.mark.parametrize("stage", [None, "train"])
def test_a_run_that_is_gone_stops_nothing_that_was_begun(stage, ablation, capsys):
    cfg, run = opened([*ablation, "reuse=[gone]"])
    run.create()
    refuse_errors(examine(cfg, run, stage=stage)[1])
    assert "warning: preflight, reused_runs_exist: reuse=gone" in capsys.readouterr().err


def test_plan_shows_that_the_base_models_evaluation_would_be_adopted(runs, tiny_model, ablation):
    before, other = opened([*tiny_experiment(tiny_model, runs), "evaluate.subjects=[base]"])
    for stage in evaluate(before, other):
        run_stage(stage, other, say=lambda line: None)
    actions = {stage: action for stage, action, _ in stage_actions(*opened(ablation))}
    assert [actions[f"evaluate/{name}"] for name in ("base", "trained", "scores")] == [
        "adopt tiny",
        "run",
        "run",
    ]


def test_plan_shows_what_would_be_adopted_and_writes_nothing(ablation):
    cfg, run = opened(ablation)
    actions = {stage: action for stage, action, _ in stage_actions(cfg, run)}
    assert [actions[stage] for stage in PACKED] == ["adopt tiny"] * len(PACKED)
    assert {
        actions[s] for s in ("train", "evaluate/base", "evaluate/trained", "evaluate/scores", "report")
    } == {"run"}
    assert not run.path.exists()


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_adopted_makes_no_job(dry_run, ablation, capsys):
    cfg, run = opened([*ablation, "cluster=slurm_minimal"])
    if not dry_run:
        run.create()
    adopt_chain(cfg, run, dry_run=dry_run)
    said = capsys.readouterr().out.splitlines()
    verb = "would be adopted" if dry_run else "adopted"
    assert [line.partition(" from tiny")[0] for line in said] == [f"[{stage}] {verb}" for stage in PACKED]
    keys = [job.key for job in chain_jobs(cfg, run, chain_stages(cfg))]
    assert keys[0] == "train" and not {*PACKED} & {*keys}
    assert run.path.exists() is not dry_run
    if not dry_run:
        assert all(read_manifest(run.path / s).adopted_from == str(run.reuse[0].path) for s in PACKED)


def test_a_merged_stage_is_adopted_whatever_the_chunks(ablation):
    cfg, run = opened([*ablation, "generate.chunks=2", "cluster=slurm_minimal"])
    adopt_chain(cfg, run.create(), dry_run=False)
    assert not [job for job in chain_jobs(cfg, run, chain_stages(cfg)) if job.stage == "generate"]
    assert not (run.path / "generate.chunks").exists()


def test_the_same_files_elsewhere_are_the_same(ablation, tiny_model, tmp_path):
    """Paths take no part in the fingerprints: only what lies there does."""
    moved = shutil.copytree(tiny_model, tmp_path / "moved")
    rows = '{"problem_id": "p", "problem": "1 + 1", "expected_answer": "2"}\n'
    stages = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_text(rows)
        (tmp_path / folder / "test.jsonl").write_text(rows.replace("1 + 1", "1 + 2").replace('"p"', '"q"'))
        files = [
            f"problems.{k}_path={tmp_path / folder / n}.jsonl"
            for k, n in (("train", "train"), ("heldout", "test"))
        ]
        teacher = ["teacher=model", f"teacher.path={tiny_model if folder == 'a' else moved}"]
        cfg, _ = opened([*(o for o in ablation if "problems." not in o), "problems=file", *files, *teacher])
        stages.append((fingerprinted(cfg.problems), fingerprinted(cfg.teacher)))
    assert stages[0] == stages[1]


def test_finished_stages_that_will_be_replaced_are_told_in_one_line(runs, tiny_model, capsys):
    overrides = tiny_experiment(tiny_model, runs)
    say_replaced(*opened(overrides))
    assert capsys.readouterr().out == "", "nothing changes"
    say_replaced(*opened([*overrides, "train.optim.lr=5e-4"]))
    assert capsys.readouterr().out == "", "no training is there yet"
    say_replaced(*opened([*overrides, "curate.num_traces=3"]))
    (line,) = capsys.readouterr().out.splitlines()
    assert "curate (curate.num_traces: 4 -> 3)" in line and "inputs come out the same, pack." in line
    assert line.endswith("To keep them: name=OTHER reuse=[tiny]")


def test_a_new_run_replaces_nothing(ablation, capsys):
    say_replaced(*opened(ablation))
    assert capsys.readouterr().out == ""
