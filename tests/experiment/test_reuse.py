"""`reuse`: which runs are meant, what is reused before jobs are made, and what would be replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nemo_cot.config import Config
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.examine import examine, refuse_errors
from nemo_cot.experiment.graph import graph, whole_graph
from nemo_cot.experiment.planner import plan_chain, print_replaced, reuse_chain
from nemo_cot.experiment.rundirs import reused_runs, run_directory
from nemo_cot.launchers.slurm.jobs import chain_jobs
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.manifest import read_manifest
from tests.support import run_stages, tiny_experiment

PACKED = ["convert", "problems", "generate", "grade", "curate", "pack"]


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
    assert [other.path for other in run.reuse] == expected[:-1], "a run reuses nothing of itself"


def test_a_run_that_is_not_there_is_named(ablation):
    cfg, run = opened([*ablation, "reuse=[tiny,tinny]"])
    with pytest.raises(UserError) as caught:
        refuse_errors(examine(cfg, run, whole_graph(cfg))[1])
    assert "reuse=tinny" in caught.value.what and "runs_dir" in caught.value.fix


@pytest.mark.parametrize("stage", [None, "train"])
def test_a_run_that_is_gone_stops_nothing_that_was_begun(stage, ablation, capsys):
    cfg, run = opened([*ablation, "reuse=[gone]"])
    run.create()
    refuse_errors(examine(cfg, run, whole_graph(cfg), stage=stage)[1])
    assert "warning: preflight, reused_runs_exist: reuse=gone" in capsys.readouterr().err


def actions(cfg: Config, run: RunDirectory) -> dict[str, str]:
    return {step.stage.name: step.action for step in plan_chain(graph(cfg), run)}


def test_the_base_models_evaluation_is_reused_too_and_the_plan_says_so_and_writes_nothing(
    runs, tiny_model, ablation
):
    run_stages([*tiny_experiment(tiny_model, runs), "evaluate.subjects=[base]"], "evaluate")
    cfg, run = opened(ablation)
    before = sorted(runs.rglob("*"))
    assert actions(cfg, run) == {stage: "reuse" for stage in (*PACKED, "evaluate/base")} | {
        "train": "run",
        **{stage: "wait" for stage in ("evaluate/trained", "evaluate/scores", "report")},
    }
    assert sorted(runs.rglob("*")) == before and not run.path.exists()


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("more", [[], ["generate.chunks=2"]], ids=["whole", "in chunks"])
def test_what_is_reused_makes_no_job(more, dry_run, ablation, capsys):
    """A merged stage is reused whatever the chunks."""
    cfg, run = opened([*ablation, "cluster=slurm_minimal", *more])
    if not dry_run:
        run.create()
    steps = reuse_chain(graph(cfg), run, dry_run=dry_run)
    said = capsys.readouterr().out.splitlines()
    verb = "would be reused" if dry_run else "reused"
    assert [line.partition(" from tiny")[0] for line in said] == [f"[{stage}] {verb}" for stage in PACKED]
    jobs = [job.stage for job in chain_jobs(cfg, graph(cfg), steps)]
    assert jobs == ["train", "evaluate/base", "evaluate/trained", "evaluate/scores", "evaluate/scores", "report"]
    assert run.path.exists() is not dry_run and not (run.path / "generate.chunks").exists()
    if not dry_run:
        assert all(read_manifest(run.path / s).reused_from == str(run.reuse[0].path) for s in PACKED)


def test_the_same_files_elsewhere_are_the_same(ablation, tiny_model, tmp_path):
    """Paths take no part in the fingerprints: only what lies there does."""
    moved = shutil.copytree(tiny_model, tmp_path / "moved")
    rows = '{"problem_id": "p", "problem": "1 + 1", "expected_answer": "2"}\n'
    made = []
    for folder, teacher in (("a", tiny_model), ("b", moved)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_text(rows)
        (tmp_path / folder / "test.jsonl").write_text(rows.replace("1 + 1", "1 + 2").replace('"p"', '"q"'))
        files = [
            f"problems.{k}_path={tmp_path / folder / n}.jsonl"
            for k, n in (("train", "train"), ("heldout", "test"))
        ]
        cfg, _ = opened([*(o for o in ablation if "problems." not in o), "problems=file", *files,
                         "teacher=model", f"teacher.path={teacher}"])  # fmt: skip
        stages = graph(cfg).stages
        made.append([stages[name].config for name in ("problems", "generate")])
    assert made[0] == made[1]


@pytest.mark.parametrize("changed, told", [
    ([], ""),
    (["train.optim.lr=5e-4"], ""),  # no training is there yet
    (["curate.num_traces=3"], "curate (curate.num_traces: 4 -> 3); and, unless their inputs come out the same, pack."),
    (["name=new", "reuse=[tiny]", "curate.num_traces=3"], ""),
])  # fmt: skip
def test_finished_stages_that_will_be_replaced_are_named_in_one_line(changed, told, runs, tiny_model, capsys):
    cfg, run = opened([*tiny_experiment(tiny_model, runs), *changed])
    print_replaced(plan_chain(graph(cfg), run), run)
    said = capsys.readouterr().out
    line = f"finished stages will be replaced: {told} To keep them: name=OTHER reuse=[tiny]\n"
    assert said == (line if told else "")
