"""A run that is found again: its own config counts, whatever it was started with."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import EXTRA_CONF, compose_config, to_dataclasses, to_yaml
from nemo_cot.experiment.existing import find_directory, find_run, stored_config
from tests.experiment.test_config import EXPERIMENTS, NEEDED

MORE = ["teacher=model", "teacher.engine=openai", "teacher.engine.stall_seconds=7", "cluster=slurm_minimal",
        "problems=file", "problems.train_path=a", "problems.heldout_path=b", "cluster.environment.A=1e5",
        "curate.filters.regex.pattern=wait"]  # fmt: skip


def started(folder: Path, *overrides: str) -> object:
    """The config of a run that was started with ``overrides``, whose config.yaml is left in ``folder``."""
    tree = compose_config([*overrides, f"runs_dir={folder}"])
    run = folder / tree.name
    run.mkdir(exist_ok=True)
    (run / "config.yaml").write_text(to_yaml(tree))
    return to_dataclasses(tree)


@pytest.mark.parametrize("overrides", [
    *([f"experiment={e}", *NEEDED.get(f"experiment/{e}", []), "name=x"] for e in EXPERIMENTS), [*MORE, "name=x"],
    ["teacher=openthoughts", "teacher.path=a", "teacher.where.source=[b,c]", "problems=from_traces", "problems.heldout_path=d", "name=x"],
])  # fmt: skip
def test_the_config_of_any_experiment_is_read_back_whole(overrides, tmp_path):
    cfg = started(tmp_path, *overrides)
    assert find_run([f"runs_dir={tmp_path}", "name=x"])[0] == cfg


def test_of_what_is_given_only_the_reports_own_values_count(tmp_path):
    cfg = started(tmp_path, "name=x", "train.max_steps=33")
    given = ["name=x", f"runs_dir={tmp_path}", "train.max_steps=34", "report.num_traces_shown=9"]
    found, run = find_run(given)
    assert (found.train.max_steps, found.report.num_traces_shown) == (33, 9) and run.path == tmp_path / "x"
    assert found.report.title == cfg.report.title


@pytest.mark.parametrize("damage", [
    b"a: [\n", b"- 1\n", b"true\n", b"", b"\x00\n", b"\xff\n", b"[" * 3000 + b"\n", (b"backend: local", b"backend: other"),
    (b"max_steps: 33", b"max_steps: -1"), (b"lr:", b"lrr:"), (b"evaluate:", b"elevate:"), (b"train:", b"brain:"),
    (b"scheduler: none", b"scheduler: null"), (b"scheduler: none\n", b"scheduler: none"),
], ids=lambda damage: repr(damage)[:40])  # fmt: skip
def test_a_config_that_cannot_be_read_is_refused_by_name(damage, tmp_path):
    """What is given beside it may be another experiment's; where only the directory is wanted, it does not matter."""
    started(tmp_path, "name=x", "train.max_steps=33")
    path, given = tmp_path / "x" / "config.yaml", ["name=x", f"runs_dir={tmp_path}", "experiment=quickstart_wrong"]
    text = damage if isinstance(damage, bytes) else path.read_bytes().replace(*damage, 1)
    assert text != path.read_bytes()
    path.write_bytes(text)
    with pytest.raises(UserError) as caught:
        find_run(given)
    assert caught.value.where == str(path) and "damaged, or written by another version" in caught.value.what
    assert find_directory(given).path == tmp_path / "x"
    path.unlink()
    assert find_run(given)[0].curate.verdicts == ["wrong"]


def test_a_config_that_was_cut_short_anywhere_is_refused(tmp_path):
    """At every end of a line above the last part, where what is left is whole YAML, and within some lines."""
    started(tmp_path, "name=x")
    path = tmp_path / "x" / "config.yaml"
    whole = path.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole[:-1]) if byte == 10]
    assert len(ends) > 100 and whole.endswith(b"cluster:\n  scheduler: none\n")
    for cut in [0, 1, 900, *ends, *(end - 1 for end in ends), *range(len(whole) - 30, len(whole))]:
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="damaged"):
            stored_config(path)
    path.write_bytes(whole)
    assert stored_config(path) is not None


def test_keys_that_came_after_the_run_have_their_defaults(tmp_path):
    started(tmp_path, *MORE, "name=x", "train.max_steps=33")
    path = tmp_path / "x" / "config.yaml"
    tree = OmegaConf.load(path)
    for key in ("train.optim.eps", "teacher.engine.retries", "evaluate.chunks", "cluster.requeue", "report"):
        part, _, last = key.rpartition(".")
        del (OmegaConf.select(tree, part) if part else tree)[last]
    path.write_text(OmegaConf.to_yaml(tree))
    found, _ = find_run([f"runs_dir={tmp_path}", "name=x"])
    assert found.train.max_steps == 33 and found.teacher.engine.stall_seconds == 7
    assert found.evaluate.chunks == 1 and found.cluster.requeue and found.report.title is None


def test_keys_that_were_called_otherwise_when_the_run_was_started_are_read(tmp_path):
    started(tmp_path, "name=x", "cluster=slurm_minimal", "cluster.resources.conversion.time_limit='07:00:00'")
    path = tmp_path / "x" / "config.yaml"
    tree = OmegaConf.load(path)
    tree.cluster.resources.convert = tree.cluster.resources.pop("conversion")
    tree.generate.chunk = tree.evaluate.chunk = None
    path.write_text(OmegaConf.to_yaml(tree))
    assert find_run([f"runs_dir={tmp_path}", "name=x"])[0].cluster.resources.conversion.time_limit == "07:00:00"


def test_a_missing_value_that_another_one_is_made_of_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(EXTRA_CONF, str(tmp_path))
    (tmp_path / "experiment").mkdir()
    mine = "# @package _global_\ndefaults:\n- override /teacher: file\n- override /model: hf_directory\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(
        f"{mine}name: mine\nteacher:\n  path: ${{model.path}}\n"
    )
    (tmp_path / "mine").mkdir()
    assert find_run([f"runs_dir={tmp_path}", "experiment=mine"])[0].teacher.path == "not given"


def test_no_such_run_and_a_name_that_cannot_be(tmp_path):
    for name, part in (("'../x'", "plain directory name"), ("x", "no such run")):
        with pytest.raises(UserError, match=part):
            find_run([f"runs_dir={tmp_path}", f"name={name}"])


def test_a_value_of_the_report_that_cannot_be_resolved_is_named(tmp_path):
    started(tmp_path, "name=x")
    with pytest.raises(UserError, match="NO_SUCH"):
        find_run([f"runs_dir={tmp_path}", "name=x", "report.num_traces_shown=${oc.env:NO_SUCH}"])


def test_an_unknown_key_is_named_here_too(tmp_path):
    with pytest.raises(UserError, match="unknown key"):
        find_run([f"runs_dir={tmp_path}", "nmae=x"])
