"""Studies and sweeps: what runs they hold, what these have in common, and the errors of their files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import Composer, compose_config, load_config, to_yaml
from nemo_cot.experiment.graph import graph
from nemo_cot.experiment.groups import CONF
from nemo_cot.experiment.sharing import plan_study, print_study_warnings, refuse_study_errors
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
    return graph(load_config(["experiment=quickstart", *overrides])).keys


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
        return [p.removeprefix("run ") for p, f in plan.found("error") if f.rule == "study_images"]

    assert found() == wrong and found("--only", "rl,local") == []


def study_findings(*more, **options):
    """What is found of the study as a whole, or between its runs, by level: rule, who, what and fix."""
    plan = plan_study(chosen(*more), **options)
    return [(f.level, f.rule, who, f"{f.what}. {f.fix}") for who, f in plan.findings if f.rule.startswith("study_")]


def test_the_disk_of_a_study_is_that_of_its_runs_with_what_they_share_once(write, monkeypatch):
    """One base model, two trained ones, and the checkpoints of as many trainings as go on at a time."""
    write(runs={"plain": ["experiment=quickstart"], "fast": ["experiment=quickstart", "train.optim.lr=1e-3"]})
    sizes = plan_study(chosen()).chosen[0].training.disk
    once = sizes["convert"] + 2 * sizes["train"]
    only_one = sizes["convert"] + sizes["train"] + sizes["scratch"]
    cases = (([], {}, once + sizes["scratch"]), (["--jobs", "2"], {}, once + 2 * sizes["scratch"]), (["--only", "fast"], {}, only_one),
             (["cluster=slurm_minimal"], {"elsewhere": True}, once + 2 * sizes["scratch"]))  # fmt: skip
    for more, options, needed in cases:
        for free, level in ((needed, "ok"), (needed - 1, "error")):
            monkeypatch.setattr("nemo_cot.preflight.rules.shutil.disk_usage", lambda _: SimpleNamespace(free=free))  # noqa: B023
            [(found, rule, who, text)] = study_findings(*more, **options)
            assert (found, rule, who) == (level, "study_disk", "study"), (more, text)
    with pytest.raises(UserError, match=r"study: preflight, study_disk: the runs need about .* GiB free\. Fix: free space"):
        refuse_study_errors(plan_study(chosen("cluster=slurm_minimal"), elsewhere=True))


def test_what_a_half_done_training_has_on_the_disk_is_not_needed_again(write, tmp_path, monkeypatch):
    write(runs={"plain": ["experiment=quickstart"]})
    sizes = plan_study(chosen()).chosen[0].training.disk
    half = tmp_path / "runs/s/plain/train.partial-0"
    half.mkdir(parents=True)
    with open(half / "weights", "wb") as handle:
        handle.truncate(sizes["train"] // 2)
    free = sum(sizes.values()) - sizes["train"] // 2
    monkeypatch.setattr("nemo_cot.preflight.rules.shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    assert [level for level, *_ in study_findings()] == ["ok"]


HELDOUT = {"problem": "1 + 1?", "expected_answer": "2"}


@pytest.mark.parametrize(("override", "words"), [
    ("problems.num_heldout=9", "problems.num_heldout 9, there 30): no table compares them. set problems.num_heldout=30"),
    ("problems.terms=4", "set problems.terms=3"),
    ("problems=file problems.train_path=b.jsonl problems.heldout_path=b.jsonl teacher=model teacher.path=/x", "set problems=chain_sum"),
    ("curate.num_traces=5", None),
    ("teacher=model teacher.path=/x", None),
])  # fmt: skip
def test_other_held_out_problems_are_an_error_of_the_plan_not_of_the_table(write, override, words):
    write(runs={"plain": ["experiment=quickstart"], "odd": ["experiment=quickstart", *override.split()]})
    found = [(who, text) for level, rule, who, text in study_findings() if rule == "study_problems" and level == "error"]
    assert [who for who, _ in found] == ([] if words is None else ["odd"])
    assert words is None or words in found[0][1].replace("'", "")


def test_problem_files_are_compared_by_content_and_what_is_trained_on_may_differ(write, tmp_path):
    """Also where the training problems are those of the traces; a file that is not there yet is no difference."""
    for name, answers in {"a": "22", "copy": "22", "other": "23"}.items():
        rows = [{**HELDOUT, "id": str(n), "expected_answer": answer} for n, answer in enumerate(answers)]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    teacher = ["experiment=quickstart", "teacher=file", "teacher.path=a.jsonl"]

    def of(source, heldout):
        train = [f"problems.train_path={heldout}"] if source == "file" else []
        return [*teacher, f"problems={source}", f"problems.heldout_path={heldout}", *train]

    write(
        runs={"plain": of("file", "a.jsonl"), "copy": of("file", "copy.jsonl"), "traces": of("from_traces", "a.jsonl"),
              "other": of("from_traces", "other.jsonl"), "later": of("file", "later.jsonl")},
    )  # fmt: skip
    found = [(who, text) for _, rule, who, text in study_findings() if rule == "study_problems"]
    assert [who for who, _ in found] == ["other"] and "set problems.heldout_path='a.jsonl'" in found[0][1]


def test_sets_that_are_measured_and_numbers_of_samples_are_compared_too(write):
    four = ["evaluate.sets.four.problems=chain_sum", "evaluate.sets.four.problems.terms=4"]
    write(
        overrides=["experiment=quickstart", *four], measures=["lenient", "four.lenient"],
        runs={"plain": [], "odd": ["evaluate.sets.four.problems.seed=9"], "few": ["evaluate.samples_per_problem=2"],
              "single": ["evaluate.sets.four.samples_per_problem=1"]},
    )  # fmt: skip
    found = {(level, rule, who): text for level, rule, who, text in study_findings() if rule != "study_disk"}
    assert list(found) == [("error", "study_problems", "odd"), ("warning", "study_samples", "few"), ("warning", "study_samples", "single")]
    odd, few, single = found.values()
    assert "held-out problems on four" in odd and "set evaluate.sets.four.problems.seed=" in odd
    assert "2 samples per problem, the baseline plain has" in few and "set evaluate.samples_per_problem=" in few
    assert "1 samples per problem on four" in single and "set evaluate.sets.four.samples_per_problem=" in single
    assert [rule for _, rule, *_ in study_findings("--only", "odd")] == ["study_problems", "study_disk"], "the baseline is compared"
    assert [rule for _, rule, *_ in study_findings("--only", "plain")] == ["study_disk"]


def test_a_sweep_compares_nothing_and_may_ask_other_problems(write):
    plan = plan_study(chosen_study(["-m", "experiment=quickstart", "problems.num_heldout=9,10"]))
    assert not plan.found("error") and not plan.found("warning")


def test_variants_of_the_same_figures_are_warned_of(write):
    write(runs={"plain": [], "again": ["curate.num_traces=20"], "base": {"overrides": [], "subject": "base"},
                "untrained": {"overrides": ["curate.verdicts=[wrong]"], "subject": "base"}, "wrong": ["curate.verdicts=[wrong]"]},
          overrides=["experiment=quickstart"])  # fmt: skip
    found = [(level, who, text) for level, rule, who, text in study_findings() if rule == "study_variants"]
    assert [one[:2] for one in found] == [("warning", "again"), ("warning", "untrained")]
    assert "that of plain" in found[0][2] and "that of base" in found[1][2]


def test_a_model_that_a_variant_does_not_evaluate_is_an_error_of_the_plan(write):
    for subject, words in (("tranied", "did you mean trained?"), ("prompted", "subject: base")):
        write(runs={"plain": {"overrides": ["experiment=quickstart"], "subject": subject}})
        with pytest.raises(UserError, match=f"compares {subject}, which this run does not evaluate") as error:
            plan_study(chosen())
        assert words in error.value.fix
    write(runs={"plain": ["experiment=quickstart_prompting"]})
    with pytest.raises(UserError, match="compares trained, which this run does not evaluate"):
        plan_study(chosen())


def test_a_variant_is_repeated_over_the_seeds_that_act_on_what_it_compares(write, capsys):
    """Whatever the command runs of the chain. The base is asked anew by evaluate.seed alone, examples are chosen traces."""
    runs = {
        "plain": ["experiment=quickstart"], "base": {"overrides": ["experiment=quickstart"], "subject": "base"},
        "untrained": {"overrides": ["experiment=quickstart_prompting"], "subject": "base"},
        "prompted": {"overrides": ["experiment=quickstart_prompting"], "subject": "prompted"},
        "file": ["experiment=quickstart", "teacher=file", "teacher.path=/x"],
    }  # fmt: skip
    both = ["curate1-evaluate5", "curate1-evaluate6", "curate2-evaluate5", "curate2-evaluate6"]
    write(runs=runs, repeats={"curate.seed": [1, 2], "evaluate.seed": [5, 6]})
    for more in ([], ["launcher.stages=[problems,convert]"]):
        found = names(*more)
        for variant in runs:
            marks = ["evaluate5", "evaluate6"] if variant in ("base", "untrained") else both
            assert [name for name in found if name.startswith(f"{variant}.")] == [f"{variant}.{mark}" for mark in marks]
    base = next(run for run in chosen().runs if run.name == "base.evaluate6")
    assert base.seeds == {"curate.seed": None, "evaluate.seed": 6} and load_config(base.overrides).curate.seed == 1
    write(runs=runs, repeats=[{"curate.seed": 1, "train.seed": 3}, {"curate.seed": 2, "train.seed": 4}])
    assert [name for name in names() if "base" in name or "un" in name] == ["base", "untrained"]
    print_study_warnings(plan_study(chosen("--only", "plain,base")))
    assert "note: base: base is no other model with another curate.seed or train.seed: not repeated" in capsys.readouterr().out
    write(runs={"odd": {"overrides": ["train.max_stesp=4"], "subject": "base"}}, baseline="odd", repeats={"curate.seed": [1, 2]})
    assert names() == ["odd.curate1", "odd.curate2"], "its error is the plan's"


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
