"""What plan says of a chain: its form for people, that for programs, how long it takes, and layouts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from nemo_cot.config.rule import Span
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.examine import examine
from nemo_cot.experiment.graph import graph, whole_graph
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.launchers import plan as plan_module
from nemo_cot.launchers.planned import VERSION, Planned, planned
from nemo_cot.preflight.durations import Duration, durations
from nemo_cot.preflight.suggest import suggestions
from nemo_cot.provenance import hardware
from nemo_cot.stages.manifest import Artifact, Manifest, write_manifest

PAPER = [
    "experiment=paper_main", "problems=chain_sum", "problems.num_train=50", "problems.num_heldout=256", "teacher.path=null",
    "model.path=/none", "cluster=slurm_8xh100", "cluster.container.image=/x.sqsh",
    "cluster.resources.generate.image=/v.sqsh", "cluster.resources.evaluate.image=/v.sqsh",
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def printed(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, list[str]]:
    code = plan_module.print_plan(arguments)
    return code, capsys.readouterr().out.splitlines()


def test_errors_come_first_then_warnings_the_rules_in_one_line_and_a_summary_last(here, capsys):
    wrong = ("curate.num_traces=100", "curate.target_tokens=9", "curate.order=target")
    code, lines = printed(capsys, "experiment=quickstart", *wrong)
    assert code == 2
    assert lines[0].startswith("error: enough_candidates: ") and "Fix: " in lines[0]
    assert lines[1].startswith("warning: target_in_window: ")
    assert re.fullmatch(r"\d+ rules passed.*; --all shows each", lines[2])
    assert lines[-1].startswith("cannot run: 1 error, 1 warning, ") and "stages to do" in lines[-1]
    assert not [line for line in lines if line.startswith("ok: ")] and not list(here.iterdir())


def test_all_shows_every_rule_and_a_plan_without_trouble_is_short(here, capsys):
    code, lines = printed(capsys, "experiment=quickstart")
    assert code == 0 and len(lines) < 45 and lines[-1].startswith("ready: 11 of 11 stages to do, ")
    assert not [line for line in lines if "known after convert" in line], "the shape of the shipped model is known"
    passed = int(lines[0].partition(" ")[0])
    _, more = printed(capsys, "experiment=quickstart", "--all")
    assert len([line for line in more if line.startswith("ok: ")]) == passed


def test_the_json_has_every_field_of_its_schema_and_nothing_else(here, capsys):
    code, lines = printed(capsys, *PAPER, "--json")
    found = msgspec.json.decode("\n".join(lines).encode(), type=Planned)
    assert code == 2 and found.version == VERSION == 1
    plain = json.loads("\n".join(lines))
    assert plain.keys() == {
        "version", "run", "errors", "warnings", "passed", "not_asked", "findings", "stages", "parameters", "sampling",
        "training", "gpu_hours", "seconds", "suggestions",
    }  # fmt: skip
    assert plain["stages"][0].keys() == {
        "name", "action", "why", "settled", "parts", "seconds", "gpu_hours", "basis"
    }  # fmt: skip
    assert plain["findings"][0].keys() == {"rule", "level", "what", "fix"}
    assert plain["gpu_hours"].keys() == {"low", "middle", "high"}
    stages = {stage.name: stage for stage in found.stages}
    assert "evaluate/base/chunk-000" not in stages and stages["evaluate/base"].parts == 2
    for name, low, high in (("generate", 12, 18), ("train", 30, 40), ("evaluate/trained", 22, 29)):
        hours = stages[name].gpu_hours
        assert hours and hours.low < hours.middle < hours.high and low < hours.middle < high, name
    total = sum(stage.gpu_hours.middle for stage in found.stages if stage.gpu_hours)
    assert found.gpu_hours and found.gpu_hours.middle == pytest.approx(total)
    assert stages["generate"].why == "after problems, convert" or stages["generate"].why.startswith("after ")
    assert "chunk" not in stages["generate"].why


def test_spans_are_written_in_the_unit_of_their_middle():
    assert plan_module.duration(Span(20, 45, 80)) == "45 s (20 to 80)"
    assert plan_module.duration(Span(600, 1200, 7200)) == "20 min (10 to 120)"
    assert plan_module.duration(Span(3600, 9000, 14400)) == "2.5 h (1.0 to 4.0)"


def took(*overrides: str) -> dict[str, Duration]:
    cfg = load_config(["experiment=quickstart", *overrides])
    run = run_directory(cfg)
    return durations(cfg, graph(cfg).stages, examine(cfg, run, whole_graph(cfg))[0], run)


def earlier(runs: Path, name: str, stage: str, seconds: float, rows: int | None = None, **changes: object) -> None:
    """A finished stage of another run of the quickstart, as its manifest tells of it."""
    own = graph(load_config(["experiment=quickstart"])).stages[stage]
    manifest = Manifest(
        stage=stage, stage_version=1, fingerprint="0", config=own.config, settings={}, inputs={},
        outputs={"out": Artifact(path="out", sha256="0", num_bytes=1, rows=rows)}, seeds={}, code={}, packages={},
        hardware=hardware(), finished_at="2026-01-01T00:00:00+00:00", wall_seconds=seconds, attempts=1,
    )  # fmt: skip
    folder = runs / name / stage
    folder.mkdir(parents=True)
    write_manifest(folder, _changed(manifest, changes))


def _changed(manifest: Manifest, changes: dict) -> Manifest:
    for key, value in changes.items():
        setattr(manifest, key, value)
    return manifest


def test_what_earlier_runs_took_is_what_a_stage_will_take(tmp_path):
    runs = [f"runs_dir={tmp_path}"]
    first = took(*runs)
    assert "assumed" in first["train"].basis and first["train"].seconds.high > 5 * first["train"].seconds.low
    for name, seconds in (("a", 100.0), ("b", 140.0)):
        earlier(tmp_path, name, "convert", 30.0)
        earlier(tmp_path, name, "train", seconds)
        earlier(tmp_path, name, "evaluate/base", 60.0, rows=240)
    found = took(*runs)
    assert found["train"].basis == "2 earlier runs on this machine"
    assert found["train"].seconds.middle == pytest.approx(120) and found["train"].seconds.low < 100
    assert took(*runs, "train.max_steps=20")["train"].seconds.middle == pytest.approx(240), "twice the steps"
    assert took(*runs, "train.optim.lr=1e-5")["train"].seconds.middle == pytest.approx(120)
    half = took(*runs, "evaluate.samples_per_problem=4")["evaluate/base"]
    assert half.seconds.middle == pytest.approx(30), "half the answers"
    for other in ("train.precision=fp32", "train.batching=literal", "pack.capacity_tokens=2048"):
        assert "assumed" in took(*runs, other)["train"].basis, other
    assert "assumed" in took(*runs, "model.name=another")["train"].basis


@pytest.mark.parametrize("changes", [
    {"attempts": 2}, {"reused_from": "/elsewhere"}, {"hardware": {"processor": "another", "cores": 1, "gpu": None}},
], ids=["resumed", "reused", "another machine"])  # fmt: skip
def test_what_says_nothing_about_the_time_is_left_out(changes, tmp_path):
    earlier(tmp_path, "a", "convert", 30.0)
    earlier(tmp_path, "a", "train", 1.0, **changes)
    (tmp_path / "b" / "convert").mkdir(parents=True)
    (tmp_path / "b" / "convert" / "manifest.json").write_text("{")
    assert "assumed" in took(f"runs_dir={tmp_path}")["train"].basis


def test_the_best_layouts_come_first_with_overrides_that_give_them(here):
    cfg = load_config(PAPER)
    cost, _ = examine(cfg, run_directory(cfg), whole_graph(cfg), elsewhere=True)
    found = suggestions(cfg, cost)
    for stage in ("generate", "evaluate", "train"):
        own = [one for one in found if one.stage == stage]
        assert 2 <= len(own) <= 3
        assert own == sorted(own, key=lambda one: one.gpu_hours.middle)
        best = load_config([*PAPER, *own[0].overrides])
        again = planned(best, suggest=False)
        name = "evaluate/base" if stage == "evaluate" else stage
        hours = next(s.gpu_hours for s in again.stages if s.name == name)
        assert hours and hours.middle == pytest.approx(own[0].gpu_hours.middle)
    train = next(one for one in found if one.stage == "train")
    assert train.memory_bytes < 79.6 * 2**30 and "train.layout.checkpoint_activations=none" in train.overrides


def test_suggestions_are_lines_with_overrides_to_copy(here, capsys):
    _, lines = printed(capsys, *PAPER, "launcher.stages=[problems,convert,hf_to_nemo,train,report]", "--suggest")
    found = [line for line in lines if line.startswith("best for train: ")]
    assert len(found) == 3 and all(re.search(r"GiB of each; .*: train\.layout\.\S+=\S+", line) for line in found)
    assert not [line for line in lines if line.startswith("best for generate")]


def test_more_nodes_that_save_gpu_hours_are_not_warned_of(here):
    def warned(*more: str) -> bool:
        cfg = load_config([*PAPER, *more])
        findings = examine(cfg, run_directory(cfg), whole_graph(cfg), elsewhere=True)[1]
        return any(f.rule == "layout_size" and f.level == "warning" for f in findings)

    four = "train.layout.num_nodes=4"
    assert warned(four) and not warned(four, "train.layout.checkpoint_activations=none")
    assert not warned()
