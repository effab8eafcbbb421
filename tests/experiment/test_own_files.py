"""Files of one's own: experiments, clusters and engines, by name or path, and what is refused of them."""

from __future__ import annotations

import pytest

from nemo_cot.experiment.compose import EXTRA_CONF, load_config
from tests.experiment.test_config import NEEDED, SLURM, experiment, refusal


def test_a_folder_of_ones_own_experiments(extra):
    experiment(extra, "name: mine\ntrain:\n  max_steps: 7\n")
    cfg = load_config(["experiment=mine"])
    assert (cfg.name, cfg.train.max_steps) == ("mine", 7)
    error = refusal("experiment=mien")
    assert "did you mean experiment=mine?" in error.fix and f"{EXTRA_CONF}={extra} with experiment/NAME.yaml" in error.fix


@pytest.mark.parametrize("override, hint", [
    ("experiment=quikstart", "did you mean experiment=quickstart? A file of your own: experiment=PATH/NAME.yaml, or"),
    ("experiment=own", "choose one of paper_14b, paper_7b, "), ("experiment=null", "choose one of paper_14b, "),
    ("experiment=/no/such", "choose one of paper_14b, "), ("teacher=modle", "did you mean teacher=model?"),
    ("evaluate.engine=nemo_skill", "did you mean evaluate.engine=nemo_skills? A file of your own: evaluate.engine=PATH/NAME.yaml"),
])  # fmt: skip
def test_a_choice_that_is_not_there_names_those_that_are_and_where_ones_own_go(override, hint, monkeypatch):
    monkeypatch.delenv(EXTRA_CONF, raising=False)
    error = refusal(override)
    assert error.fix.startswith(hint) and f"{EXTRA_CONF}=DIR with" in error.fix


@pytest.mark.parametrize("path", ["{here}/own.yaml", "./own.yaml", "own.yaml", "sub/ö x,.yaml"])
def test_ones_own_experiment_by_its_path(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    path = path.format(here=tmp_path)
    (tmp_path / path).write_text("# @package _global_\ndefaults: [quickstart, override /train: nemo_rl, _self_]\ntrain: {max_steps: 7}\n")
    quoted = f"experiment='{path}'" if "," in path else f"experiment={path}"
    cfg = load_config([quoted, "train.seed=5"])
    assert (cfg.name, cfg.train.backend, cfg.train.max_steps, cfg.train.seed) == ("quickstart", "nemo_rl", 7, 5)
    (tmp_path / path).write_text("# @package _global_\ntrain: {max_stesp: 7}\n")
    assert "train.max_steps" in refusal(quoted).fix
    (tmp_path / path).unlink()
    error = refusal(quoted)
    assert (error.what, error.where) == ("no such file", f"experiment={path}")


def test_a_cluster_and_an_engine_by_their_paths(tmp_path):
    (tmp_path / "ours.yaml").write_text("defaults: [slurm_minimal, _self_]\npartition: ours\n")
    (tmp_path / "vllm.yaml").write_text("defaults: [openai, _self_]\nretries: 9\n")
    cfg = load_config([f"cluster={tmp_path}/ours.yaml", f"evaluate.engine={tmp_path}/vllm.yaml"])
    assert (cfg.cluster.partition, cfg.evaluate.engine.kind, cfg.evaluate.engine.retries) == ("ours", "openai", 9)


OWN = """defaults:
  - paper_main
  - override /teacher: file
  - override /train: local
  - override /engine@evaluate.engine: openai
  - _self_
name: own
"""


def test_an_own_experiment_makes_other_choices_than_the_one_it_inherits(extra):
    own = ["experiment=mine", *NEEDED["experiment/paper_main"]]
    experiment(extra, OWN)
    cfg = load_config(own)
    assert (cfg.teacher.kind, cfg.train.backend, cfg.evaluate.engine.kind) == ("file", "local", "openai")
    experiment(extra, OWN + "train:\n  conversion: {average_steps: []}\n")
    error = refusal(*own)
    assert error.where == "train.conversion" and "train=nemo_aligner or train=nemo_rl" in error.fix


@pytest.mark.parametrize("text, where, part", [
    ("train:\n  max_stesp: 7\n", "max_stesp", "train.max_steps"),
    ("train:\n  optim:\n    sched:\n      warmup: 7\n", "warmup", ""),
    ("trian:\n  max_steps: 7\n", "trian", "train"),
    ("train:\n  max_steps: many\n", "train.max_steps", ""),
    ("train:\n  optim:\n    eps: .inf\n", "train.optim.eps", "finite"),
    ("train: [1\n", "mine.yaml, line 3", "not YAML"),
    ("train:\n\tmax_steps: 1\n", "mine.yaml, line 3", "not YAML"),
    ("name: a\nname: b\n", "mine.yaml, line 3", "duplicate key"),
    ("name: '\0'\n", "mine.yaml", "special characters"),
    ("defaults:\n  - override /teacher: modle\n", "teacher", "did you mean teacher=model?"),
    ("defaults:\n  - override /techer: model\n", "techer", "did you mean teacher?"),
    ("defaults:\n  - /nosuch: x\n", "nosuch", "the config groups there are: cluster, curate, engine, "),
    ("defaults: 3\n", "mine.yaml", "must be a list"),
    ("defaults: [mine]\n", "mine.yaml", "experiment/mine -> experiment/mine"),
    ("name: ${nothing.here}\n", "name", "nothing.here"),
    ("- a\n- b\n", "mine.yaml", "a list, where keys are needed"),
])  # fmt: skip
def test_a_bad_file_is_one_line_that_names_the_key_or_the_file(extra, text, where, part):
    experiment(extra, text)
    error = refusal("experiment=mine")
    assert where in error.where and part in str(error)


def test_a_file_without_its_header_names_the_line_to_add(extra):
    path = experiment(extra, "")
    for text in ("name: x\n", "", "only text\n"):
        path.write_text(text)
        error = refusal("experiment=mine")
        assert error.where == str(path) and "# @package _global_" in error.fix


def test_a_profile_that_names_itself_or_is_a_list_or_no_text(extra):
    (extra / "cluster").mkdir()
    files = {"loop": b"defaults: [back]\n", "back": b"defaults:\n- loop\n- _self_\n", "lines": b"- a\n", "latin": b"a: 1\nscheduler: \xe4\n"}
    for name, text in files.items():
        (extra / "cluster" / f"{name}.yaml").write_bytes(text)
    error = refusal("cluster=loop")
    assert error.where.endswith("/cluster/loop.yaml") and "cluster/loop -> cluster/back -> cluster/loop" in error.fix
    error = refusal("cluster=lines")
    assert error.where.endswith("/cluster/lines.yaml") and "list" in error.what
    error = refusal("cluster=latin")
    assert error.where.endswith("/cluster/latin.yaml, line 2") and "UTF-8 (byte 0xe4)" in error.what
    # Beside the one that is meant they do no harm.
    assert "cluster=slurm_minimal" in refusal("cluster.account=me").fix
    assert load_config(SLURM).cluster.scheduler == "slurm"


def test_a_folder_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv(EXTRA_CONF, str(tmp_path / "none"))
    error = refusal()
    assert EXTRA_CONF in error.where and "no such directory" in error.what
