"""The command in a report gives the run's config again."""

import shlex

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.groups import CONF
from nemo_cot.experiment.reproduce import differing, origin, overrides_of

PATHS = [
    "model.path=/m/odel", "teacher.path=/t o/x'y.jsonl", "problems.train_path=/p", "problems.heldout_path=/q",
    "evaluate.models.qwen_math_72b.path=/r",
]  # fmt: skip


def given(name: str) -> list[str]:
    """The overrides of an experiment, with a path for each that it must be given."""
    found = [f"experiment={name}"]
    for path in PATHS:
        try:
            load_config(found)
            break
        except Exception as error:
            key = path.partition("=")[0]
            if key in str(error):
                found.append(hydra(path))
    return found


def hydra(override: str) -> str:
    key, _, value = override.partition("=")
    escaped = value.replace("'", "\\'")
    return f"{key}='{escaped}'"


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_the_overrides_of_an_experiment_give_it_again(name):
    cfg = load_config(given(name))
    assert load_config(overrides_of(cfg)) == cfg


@pytest.mark.parametrize(
    "overrides",
    [
        ["name=a.b-c", "train.optim.lr=5e-5", "curate.verdicts=[wrong,undecided]"],
        ["model=hf_directory", "model.path='/a b/c'", "model.prompt='<|im_start|>{problem}\n'"],
        [
            "cluster=slurm_minimal",
            "cluster.account=a",
            "cluster.partition=b",
            "cluster.environment.HF_HOME=/x",
        ],
        [
            "curate.filters.regex.pattern='(?i)as an \\\\\"AI\\\\\"'",
            "train.batching=literal",
            r"report.title='it\'s, {a: b}'",
        ],
        ["train=nemo_rl", "model=qwen2.5_7b", "model.path=/m", "evaluate.engine=openai"],
        ["name=null_", "report.title='true'", "reuse=['/x y/run',other]"],
    ],
)
def test_overrides_of_all_kinds_come_back(overrides):
    cfg = load_config(overrides)
    assert load_config(overrides_of(cfg)) == cfg


def test_the_command_is_one_that_bash_reads():
    cfg = load_config(["name=x", "curate.verdicts=[wrong]", r"model.prompt='a \'b\' {problem}'"])
    command, changed = origin(cfg)
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:2] == ["nemo-cot", "run"] and load_config(words[2:]) == cfg
    assert {c.key for c in changed} >= {"name", "curate.verdicts", "model.prompt"}
    assert not {c.key for c in changed} & {"train.seed", "problems.seed", "evaluate.seed"}
    assert next(c for c in changed if c.key == "curate.verdicts").default == ["right"]


def test_the_defaults_differ_in_nothing():
    assert differing(load_config([]), experiments=False) == ([], {})
