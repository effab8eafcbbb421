"""Studies and sweeps: what runs they hold, what these have in common, and the errors of their files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import Composer, compose_config, load_config, to_yaml
from nemo_cot.experiment.graph import graph
from nemo_cot.experiment.groups import CONF
from nemo_cot.experiment.sharing import plan_study, stage_keys
from nemo_cot.experiment.study import chosen_study

STUDY = {
    "runs": {"plain": ["experiment=quickstart"], "wrong": ["experiment=quickstart_wrong"]},
    "baseline": "plain",
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes conf/study/s.yaml with changes to STUDY."""
    monkeypatch.setenv("NEMO_COT_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study").mkdir()

    def write(**changes):
        (tmp_path / "study/s.yaml").write_text(json.dumps({**STUDY, **changes}))

    write()
    return write


def chosen(*more):
    return chosen_study(["study=s", *more])


def names(*more):
    return [run.name for run in chosen(*more).runs]


def test_every_run_is_repeated_over_every_combination_of_seeds(write):
    write(repeats={"train.seed": [1, 2], "curate.seed": [3, 4]})
    assert names()[:4] == ["plain.curate3-train1", "plain.curate3-train2", "plain.curate4-train1", "plain.curate4-train2"]
    assert len(names()) == 8
    first = chosen().runs[0]
    assert first.seeds == {"curate.seed": 3, "train.seed": 1} and first.variant == "plain"
    cfg = load_config(first.overrides)
    assert (cfg.name, cfg.runs_dir, cfg.curate.seed, cfg.train.seed) == (first.name, "runs/s", 3, 1)


def test_a_study_by_its_path_is_that_of_its_name(write, tmp_path, monkeypatch):
    by_name = chosen().study
    monkeypatch.delenv("NEMO_COT_CONFIG_DIR")
    for path in ("study/s.yaml", str(tmp_path / "study/s.yaml")):
        assert chosen_study([f"study={path}"]).study == by_name
    with pytest.raises(UserError, match=r"study=study/t\.yaml: no such file\. Fix: correct the path"):
        chosen_study(["study=study/t.yaml"])


def test_a_study_without_runs_shows_how_one_is_written(write):
    write(runs={})
    with pytest.raises(UserError, match=r"it has no runs\. Fix: write it like"):
        chosen()


def test_combinations_may_be_listed_and_a_seed_that_does_not_vary_is_no_part_of_the_name(write):
    write(repeats=[{"train.seed": 1, "evaluate.seed": 5}, {"train.seed": 2, "evaluate.seed": 5}])
    assert names() == ["plain.train1", "plain.train2", "wrong.train1", "wrong.train2"]
    assert load_config(chosen().runs[0].overrides).evaluate.seed == 5
    write()
    assert names() == ["plain", "wrong"]


def test_only_means_variants_and_runs(write):
    write(repeats={"train.seed": [1, 2]})
    assert names("--only", "wrong") == ["wrong.train1", "wrong.train2"]
    assert names("--only=plain.train2,wrong.train1") == ["plain.train2", "wrong.train1"]
    with pytest.raises(UserError) as error:
        names("--only", "wron")
    assert error.value.fix == "did you mean wrong?"


def test_the_command_line_comes_last(write):
    write(overrides=["train.max_steps=5"], runs={"plain": ["train.max_steps=6"]})
    assert load_config(chosen().runs[0].overrides).train.max_steps == 6
    cfg = load_config(chosen("train.max_steps=7", "runs_dir=elsewhere").runs[0].overrides)
    assert (cfg.train.max_steps, cfg.runs_dir) == (7, "elsewhere/s")


def test_runs_beside_the_study_are_reused_where_they_exist(write, tmp_path):
    write(reuse=["quickstart", "gone"])
    (tmp_path / "runs/quickstart").mkdir(parents=True)
    assert load_config(chosen().runs[0].overrides).reuse == ["runs/quickstart"]


def test_runs_of_an_earlier_version_of_the_study_are_reused_first(write, tmp_path):
    """With a second seed every run has another name; so has a variant that is renamed."""
    write(reuse=["quickstart"])
    (tmp_path / "runs/quickstart").mkdir(parents=True)
    for name in names():
        (tmp_path / "runs/s" / name).mkdir(parents=True)
        (tmp_path / "runs/s" / name / "config.yaml").touch()
    assert load_config(chosen().runs[0].overrides).reuse == ["runs/quickstart"], "none of its own"
    write(reuse=["quickstart"], repeats={"curate.seed": [13, 14]})
    for run in chosen().runs:
        assert load_config(run.overrides).reuse == ["runs/s/plain", "runs/s/wrong", "runs/quickstart"]
    write(runs={"plain": [], "incorrect": STUDY["runs"]["wrong"]})
    assert load_config(chosen().runs[1].overrides).reuse == ["runs/s/wrong"]
    assert load_config(chosen("reuse=[]").runs[1].overrides).reuse == []


def test_a_study_does_not_lie_in_a_run(write, tmp_path):
    (tmp_path / "runs/s").mkdir(parents=True)
    (tmp_path / "runs/s/config.yaml").touch()
    with pytest.raises(UserError, match="is the directory of a run"):
        chosen()
    assert chosen("runs_dir=other").runs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"baseline": "plan"}, "choose among plain, wrong"),
        ({"measures": ["accuracy"]}, "choose among lenient"),
        ({"measures": []}, "choose among lenient"),
        ({"repeats": {"train.sed": [1]}}, "vary generate.seed"),
        ({"repeats": [{"train.seed": 1}, {"curate.seed": 1}]}, "give every seed in each"),
        ({"runs": {"../x": []}, "baseline": "../x"}, "use letters"),
        ({"rns": {}}, "docs/studies.md"),
        ({"runs": {"plain": "experiment=quickstart"}}, "docs/studies.md"),
        ({"repeats": {"train.seed": []}}, "each value once"),
        ({"repeats": {"train.seed": [1, 1]}}, "each value once"),
        ({"repeats": [{"train.seed": 1}, {"train.seed": 1}]}, "each value once"),
        ({"repeats": {"train.seed": 3}}, "{train.seed: [1, 2]}"),
        ({"runs": {"plain": [], "b": ["name=x"]}}, "leave it out"),
        ({"runs": {"plain": [], "b": ["runs_dir=x"]}}, "leave it out"),
        ({"overrides": ["name=x"]}, "leave it out"),
        ({"overrides": ["train.seed=3"], "repeats": {"train.seed": [1, 2]}}, "change the repeats"),
        ({"runs": {"plain": ["train.seed=3"]}, "repeats": {"train.seed": [1, 2]}}, "change the repeats"),
    ],
)
def test_a_study_file_that_is_none_is_answered_with_what_can_be_done(write, changes, words):
    write(**changes)
    with pytest.raises(UserError) as error:
        chosen()
    assert words in error.value.fix


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["study=t"], "choose among"), (["study=s", "study=s"], "one study"), (["study=s", "name=x"], "leave it out"),
        (["study=s", "--jobs", "0"], "1 or more"), (["study=s", "--only"], "--only VALUE"),
        (["study=../s"], "choose among"), (["-m", "train.seed=1,1"], "each value once"),
        (["-m", "experiment=glob(*)"], "list the values"), (["-m", "train.seed=range(3,1)"], "range(1,4)"),
        (["-m", "train.seed=1,2", "runs_dir=a,b"], "one runs_dir"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(write, arguments, words):
    with pytest.raises(UserError) as error:
        chosen_study(arguments)
    assert words in error.value.fix


def test_a_seed_that_the_repeats_vary_is_not_set_for_all_of_them(write):
    """It would come last: every repeat would be the same run under another name."""
    write(repeats={"train.seed": [1, 2]})
    with pytest.raises(UserError, match=r"train\.seed is set by the study's repeats"):
        chosen("train.seed=5")
    with pytest.raises(UserError, match=r"train\.seed is set by the study's repeats"):
        chosen("++train.seed=5")
    assert load_config(chosen("evaluate.seed=5").runs[1].overrides).train.seed == 2


def test_a_run_that_is_there_twice_is_an_error_and_not_the_last_one_of_its_name(write, tmp_path):
    (tmp_path / "study/s.yaml").write_text("runs:\n  plain: []\n  wrong: []\n  plain: [train.seed=5]\nbaseline: plain\n")
    with pytest.raises(UserError, match="duplicate key plain"):
        chosen()


def test_an_empty_runs_dir_is_here(write):
    assert load_config(chosen("runs_dir=").runs[0].overrides).runs_dir == "./s"


def test_an_error_in_a_run_names_it(write):
    write(runs={"plain": [], "odd": ["train.max_stesp=4"]})
    with pytest.raises(UserError) as error:
        plan_study(chosen())
    assert error.value.where == "run odd, train.max_stesp"
    assert plan_study(chosen("--only", "plain")).chosen[0].name == "plain"


def test_a_sweep_is_the_product_of_its_values():
    found = chosen_study(["--multirun", "experiment=quickstart", "train.seed=1,2", "train.optim.lr=choice(1e-4,3e-4)"])
    assert [run.name for run in found.runs] == [
        "quickstart.train.seed-1.train.optim.lr-0.0001", "quickstart.train.seed-1.train.optim.lr-0.0003",
        "quickstart.train.seed-2.train.optim.lr-0.0001", "quickstart.train.seed-2.train.optim.lr-0.0003",
    ]  # fmt: skip
    cfg = load_config(found.runs[3].overrides)
    assert (cfg.train.seed, cfg.train.optim.lr, cfg.name) == (2, 3e-4, found.runs[3].name)


def test_ranges_groups_and_names_are_swept_too():
    assert len(chosen_study(["-m", "train.seed=range(1,4)"]).runs) == 3
    found = chosen_study(["-m", "experiment=quickstart,quickstart_wrong", "train.seed=7"])
    assert [run.name for run in found.runs] == ["quickstart", "quickstart_wrong"]
    assert load_config(found.runs[1].overrides).curate.verdicts == ["wrong"]
    listed = chosen_study(["-m", "curate.verdicts=[right],[wrong]"]).runs
    assert [load_config(run.overrides).curate.verdicts for run in listed] == [["right"], ["wrong"]]


def keys(*overrides):
    return stage_keys(graph(load_config(["experiment=quickstart", *overrides])))


@pytest.mark.parametrize(
    ("override", "differ"),
    [
        ("name=other", set()),
        ("train.save_interval_steps=7", set()),
        ("train.seed=9", {"train", "evaluate/trained", "evaluate/scores"}),
        ("curate.verdicts=[wrong]", {"curate", "pack", "train", "evaluate/trained", "evaluate/scores"}),
        ("evaluate.seed=9", {"evaluate/base", "evaluate/trained", "evaluate/scores"}),
        ("evaluate.confidence=0.9", {"evaluate/scores"}),
        ("model=hf_directory model.path=/x", {"convert", "generate", "grade", "curate", "pack", "train",
                                              "evaluate/base", "evaluate/trained", "evaluate/scores"}),
    ],
)  # fmt: skip
def test_stages_are_the_same_where_all_that_decides_them_is(override, differ):
    ours, theirs = keys(), keys(*override.split())
    assert {name for name in ours if ours[name] != theirs[name]} == differ
    assert "report" not in ours


def test_each_shared_stage_is_planned_once(write):
    write(repeats={"train.seed": [1, 2]})
    plan = plan_study(chosen())
    makers = plan.makers()
    made = {stage: {makers[p.keys[stage]].name for p in plan.chosen} for stage in plan.chosen[0].keys}
    assert all(made[stage] == {"plain.train1"} for stage in ("convert", "problems", "generate", "grade", "evaluate/base"))
    assert made["curate"] == {"plain.train1", "wrong.train1"} and len(made["train"]) == 4
    first, *_, last = plan.chosen
    generate, grade = first.keys["generate"], first.keys["grade"]
    queued = plan.makers({generate: last}, live=[first, last])
    assert (queued[generate].name, queued[grade].name) == ("wrong.train2", "plain.train2")


@pytest.mark.parametrize("cluster, wrong", [
    (["cluster=slurm_8xh100", "cluster.container.image=/i/one.sqsh"], ["rl"]),
    (["cluster=slurm_8xh100", "cluster.container.image=/i/${train.backend}.sqsh"], []),
    (["cluster=slurm_8xh100", "cluster.container.runtime=none"], []),
    ([], []),
])  # fmt: skip
def test_two_trainers_do_not_share_an_image(write, cluster, wrong):
    """The evaluation's neither, and a run that is not meant has none."""
    nemo = ["experiment=quickstart", "model=qwen2.5_7b", "model.path=/m", "train/layout=qwen2.5_7b"]
    runs = {"first": [*nemo, "train=nemo_aligner"], "rl": [*nemo, "train=nemo_rl"], "again": [*nemo, "train=nemo_aligner"]}
    write(runs={**runs, "local": ["experiment=quickstart"]}, baseline="first")

    def found(*more):
        plan = plan_study(chosen(*cluster, *more), elsewhere=True)
        return [p.name for p in plan.chosen for f in p.findings if f.rule == "study_images" and f.level == "error"]

    assert found() == wrong and found("--only", "rl,local") == []


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_a_composer_makes_of_many_what_each_would_be_alone(name):
    composer = Composer()
    rows = [
        [f"experiment={name}", "train.max_steps=9", "curate.filters.regex.pattern=wait"],
        [f"experiment={name}", "train.seed=5", "name=1e5"],
        [f"experiment={name}"],
    ]
    together = [to_yaml_open(composer.tree(row)) for row in rows]
    assert together == [to_yaml_open(compose_config(row)) for row in rows] and len(set(together)) == 3


OWN = """# @package _global_
defaults: [quickstart, {override /teacher: model}, _self_]
teacher: {path: "${name}"}
"""
CHANGES = [
    [], ["train.seed=5"], ["model.prompt='Q {problem}'"], ["evaluate.sampling.temperature=0.2"], ["teacher.sampling.top_k=9"],
    ["teacher.sampling=${evaluate.sampling}", "teacher.sampling.temperature=0.3"], ["curate.num_traces=${train.max_steps}", "train.max_steps=17"],
    ["curate.verdict_mix={right: 1}", "curate.verdicts=[right]"], ["name=other"], ["train.max_steps=0"],
    ["evaluate.sets.more.problems=chain_sum", "evaluate.sets.more.problems.num_heldout=3"],
]  # fmt: skip


def test_no_config_of_a_composer_has_what_another_changes(write, tmp_path):
    """Also where an interpolation leads: a value that is read through one, and one that is written through it."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/own.yaml").write_text(OWN)
    composer = Composer()

    def made(config, row):
        try:
            return config(["experiment=own", *row])
        except UserError as error:
            return str(error)

    alone = [made(load_config, row) for row in CHANGES]
    assert len(set(map(repr, alone))) == len(CHANGES)
    for row, one in zip([*CHANGES, *CHANGES[::-1]], [*alone, *alone[::-1]]):
        assert made(composer.config, row) == one
    assert composer.config(["experiment=own"]).pack is composer.config(["experiment=own", "train.seed=9"]).pack


def to_yaml_open(tree):
    """As text, also where values must still be given."""
    try:
        return to_yaml(tree)
    except Exception:
        from omegaconf import OmegaConf

        return OmegaConf.to_yaml(tree)


def test_shipped_studies_name_their_command():
    for path in sorted((CONF / "study").glob("*.yaml")):
        assert re.match(rf"# nemo-cot (run|submit) study={path.stem}\b", path.read_text())
        assert chosen_study([f"study={path.stem}"]).runs


def test_the_study_is_no_key_of_a_run():
    with pytest.raises(UserError, match="no part of one run"):
        load_config(["study=s"])
    assert Path(CONF / "study").is_dir()
