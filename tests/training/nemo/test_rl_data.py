"""What NeMo-RL is given: rows of text in the drawn order, its config, and its commands."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.packing import literal_draws
from nemo_cot.packing.sequences import tokenize_traces
from nemo_cot.recipes.train import train as recipe
from nemo_cot.records import Trace
from nemo_cot.stages import RunDirectory, run_stage
from nemo_cot.text import PromptFormat, TextTokenizer
from nemo_cot.training.nemo_rl.checkpoints import megatron_base, megatron_folder, saved_steps
from nemo_cot.training.nemo_rl.command import check_command, rl_command
from nemo_cot.training.nemo_rl.data import CONFIG_FILE, EXPECTED_FILE, TRAIN_FILE
from nemo_cot.training.nemo_rl.ray_cluster import is_ours
from tests.support import SECONDS

UV = f"""#!{sys.executable}
import json, os, pathlib, sys, yaml
log = pathlib.Path(os.environ["UV_LOG"])
with open(log, "a") as handle:
    handle.write(json.dumps([os.getcwd(), sys.argv[1:], os.environ["NRL_MEGATRON_CHECKPOINT_DIR"]]) + "\\n")
if sys.argv[2] == "python":
    sys.exit(int(os.environ.get("CHECK_CODE", "0")))
config = yaml.safe_load(open(sys.argv[-1]))
rows = [json.loads(line) for line in open(config["data"]["train"]["data_path"])]
assert len(rows) == config["sft"]["max_num_steps"] * config["policy"]["train_global_batch_size"]
for step in range(1, int(os.environ.get("STEPS", "2")) + 1):
    folder = pathlib.Path(config["checkpointing"]["checkpoint_dir"]) / f"step_{{step}}"
    (folder / "policy" / "weights" / "iter_0000000").mkdir(parents=True, exist_ok=True)
    (folder / "training_info.json").write_text(json.dumps({{"total_steps": step}}))
"""
"""In place of uv: notes how it was called, and leaves the checkpoints that training would."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A byte-level tokenizer with ChatML's tokens, as a Hugging Face directory without weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["user assistant What is It is so Check."] * 3, trainer)
    folder = tmp_path_factory.mktemp("base")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def cfg(base, tmp_path, monkeypatch):
    tree = tmp_path / "nemo-rl"
    (tree / "examples").mkdir(parents=True)
    (tree / "examples" / "run_sft.py").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text(UV)
    (tmp_path / "bin" / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("UV_LOG", str(tmp_path / "uv.log"))
    return load_config(
        [
            "model=hf_directory",
            f"model.path={base}",
            "train=nemo_rl",
            "train/layout=qwen2.5_7b",
            "train.max_steps=2",
            "train.optim.sched.warmup_steps=1",
            "train.global_batch_size=16",
            f"train.nemo_rl_directory={tree}",
            f"runs_dir={tmp_path}",
            "name=r",
        ]
    )


def traces(*more):
    texts = [(f"What is {n} + {n}?", f"It is {n} + {n}, so {2 * n}." + " Check." * n) for n in range(5)]
    return [
        Trace(
            problem_id=str(i),
            sample=0,
            problem=problem,
            expected_answer="",
            generation=answer,
            num_generated_tokens=1,
            finish_reason="stop",
        )
        for i, (problem, answer) in enumerate([*texts, *more])
    ]


def start(cfg, base, rows):
    """The train stage of a run whose earlier stages left ``rows``."""
    run = RunDirectory(cfg_path(cfg)).create()
    for name in ("pack", "convert", "curate"):
        run.stage(name).mkdir(exist_ok=True)
    tokenizer = TextTokenizer(
        base, PromptFormat(cfg.model.prompt, cfg.model.end_of_turn, cfg.model.eos_token)
    )
    write_jsonl(run.stage("curate") / "traces.jsonl", rows)
    write_jsonl(
        run.stage("pack") / "sequences.jsonl", tokenize_traces(rows, tokenizer, capacity_tokens=16384)
    )
    (run.stage("convert") / "manifest.json").touch()
    run_stage(next(iter(recipe(cfg))), run)
    return run


def cfg_path(cfg):
    from pathlib import Path

    return Path(cfg.runs_dir) / cfg.name


def test_the_recipe_writes_checks_trains_and_is_done(cfg, base, tmp_path):
    run = start(cfg, base, traces())
    folder = run.stage("train")
    rows = [json.loads(line) for line in (folder / TRAIN_FILE).read_text().splitlines()]
    draws = literal_draws(5, 2, 16, cfg.train.seed).reshape(-1)
    assert [row["output"] for row in rows] == [traces()[i].generation + "<|im_end|>" for i in draws]
    assert rows[0]["input"].endswith("<|im_end|>\n<|im_start|>assistant\n")
    expected = [json.loads(line) for line in (folder / EXPECTED_FILE).read_text().splitlines()]
    assert sorted(int(want["trace"][0]) for want in expected) == [0, 1, 2, 3, 4]
    assert all(draws[want["row"]] == int(want["trace"][0]) for want in expected)
    config = yaml.safe_load((folder / CONFIG_FILE).read_text())
    assert config["policy"]["model_name"] == str(base)
    calls = [json.loads(line) for line in (tmp_path / "uv.log").read_text().splitlines()]
    assert [call[1][:2] for call in calls] == [["run", "python"], ["run", "examples/run_sft.py"]]
    assert all(call[0] == cfg.train.nemo_rl_directory for call in calls)
    assert all("train.partial-" in call[2] for call in calls), "a converted base model of its own"
    assert json.loads((folder / "trained.json").read_text())["checkpoints"] == {
        "1": "nemo_rl/checkpoints/step_1",
        "2": "nemo_rl/checkpoints/step_2",
    }
    assert megatron_folder(saved_steps(folder)[2]).name == "iter_0000000"


def test_a_stop_before_the_end_is_told_and_resumed(cfg, base, monkeypatch, tmp_path):
    monkeypatch.setenv("STEPS", "1")
    with pytest.raises(UserError, match="step 1 of 2"):
        start(cfg, base, traces())
    monkeypatch.setenv("STEPS", "2")
    run = start(cfg, base, traces())
    assert list(saved_steps(run.stage("train"))) == [1, 2]
    assert len({tuple(json.loads(line)[1]) for line in (tmp_path / "uv.log").open()}) == 2, "the same folder"


def test_trap_no_step_at_all_and_exit_code_0(cfg, base, monkeypatch):
    monkeypatch.setenv("STEPS", "0")
    with pytest.raises(UserError, match="step 0 of 2"):
        start(cfg, base, traces())


def test_other_tokens_stop_it_before_training(cfg, base, monkeypatch, tmp_path):
    monkeypatch.setenv("CHECK_CODE", "1")
    with pytest.raises(UserError, match="exit code 1"):
        start(cfg, base, traces())
    assert "run_sft" not in (tmp_path / "uv.log").read_text()


@pytest.mark.parametrize("text", ["It ends.<|im_end|>", "a <|endoftext|> inside"])
def test_trap_a_special_token_spelled_out_in_a_trace(text, cfg, base, tmp_path):
    """Packed as plain text; NeMo-RL would read it as the token."""
    with pytest.raises(UserError, match="trace 5, sample 0"):
        start(cfg, base, traces(("What?", text)))
    assert not (tmp_path / "uv.log").exists()


def test_commands_are_argument_lists(cfg, tmp_path):
    cfg.train.layout.num_nodes = 1
    config = tmp_path / "a b; rm -rf" / CONFIG_FILE
    command = rl_command(cfg.train, config, tmp_path, {})
    assert command.argv == ["uv", "run", "examples/run_sft.py", "--config", str(config)]
    check = check_command(cfg.train, config, tmp_path / EXPECTED_FILE, tmp_path)
    assert check.argv[:4] == ["uv", "run", "python", "-P"] and check.argv[-2] == str(config)


@pytest.mark.parametrize(
    "given", [{}, {"RAY_ADDRESS": ""}, {"RAY_ADDRESS": "auto"}, {"RAY_ADDRESS": "local"}]
)
def test_trap_a_ray_cluster_that_nobody_named(cfg, tmp_path, given):
    """One node: a cluster of its own, whatever runs there or left its address. Several: a Slurm job, or an error."""
    cfg.train.layout.num_nodes = 1
    assert not is_ours(cfg.train, given)
    assert rl_command(cfg.train, tmp_path, tmp_path, given).environment["RAY_ADDRESS"] == "local"
    cfg.train.layout.num_nodes = 2
    with pytest.raises(UserError, match="neither a Slurm job nor a Ray cluster"):
        is_ours(cfg.train, given)
    assert is_ours(cfg.train, given | {"SLURM_JOB_ID": "7", "MASTER_ADDR": "node1"})


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_ray_cluster_that_is_named_is_used(cfg, tmp_path, nodes):
    cfg.train.layout.num_nodes = nodes
    command = rl_command(cfg.train, tmp_path, tmp_path, {"RAY_ADDRESS": "node1:6379"})
    assert command.environment["RAY_ADDRESS"] == "node1:6379"
    job = {"SLURM_JOB_ID": "7", "MASTER_ADDR": "node1"}
    assert not is_ours(cfg.train, {"RAY_ADDRESS": "node1:6379", **job})


def test_outside_of_the_container_one_line_says_so(cfg, base, tmp_path):
    cfg.train.nemo_rl_directory = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"run_sft\.py is not in") as caught:
        start(cfg, base, traces())
    assert "NeMo-RL's container" in caught.value.fix and "\n" not in str(caught.value)


def test_damaged_and_missing_checkpoints(cfg, tmp_path):
    info = tmp_path / "nemo_rl/checkpoints/step_3/training_info.json"
    info.parent.mkdir(parents=True)
    info.write_text("{")
    with pytest.raises(UserError, match="damaged checkpoint"):
        saved_steps(tmp_path)
    for function, place in ((megatron_folder, info.parent), (megatron_base, tmp_path / "none")):
        with pytest.raises(UserError, match="0 Megatron checkpoints"):
            function(place)


def test_the_check_is_a_script_that_needs_nothing_of_ours(tmp_path):
    """Run alone it must fail for want of NeMo-RL, and for nothing before that."""
    from nemo_cot.training.nemo_rl import check as rl_check

    done = subprocess.run(
        [sys.executable, "-I", "-S", rl_check.__file__, "a", "b"], capture_output=True, text=True, timeout=SECONDS
    )
    assert "No module named 'nemo_rl'" in done.stderr
