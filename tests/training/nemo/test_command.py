"""The commands that train, and how a run that did not finish is told from one that did."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.training.nemo.checkpoints import check_finished
from nemo_cot.training.nemo.command import Command, check_importable, run_command
from nemo_cot.training.nemo_aligner.checkpoints import saved_steps
from nemo_cot.training.nemo_aligner.command import aligner_command, single_process

CONFIG = Path("/run a/aligner.yaml")


def train(*overrides):
    return load_config(["train=nemo_aligner", *overrides]).train


def test_one_node_starts_a_process_a_gpu():
    command = aligner_command(train("train.layout.num_nodes=1"), CONFIG, {})
    assert command.argv == [
        "python",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=8",
        "-m",
        "nemo_cot.training.nemo_aligner.aligner_sft",
        "/run a/aligner.yaml",
    ]
    assert command.environment["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"


def test_several_nodes_meet_at_the_first():
    command = aligner_command(train(), CONFIG, {"MASTER_ADDR": "node1", "SLURM_JOB_ID": "7"})
    assert {"--nnodes=2", "--rdzv-endpoint=node1:20007", "--rdzv-id=7", "--rdzv-backend=c10d"} <= set(
        command.argv
    )
    assert command.argv[:6] == [
        "srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1", "python"
    ]  # fmt: skip
    by_hand = aligner_command(train(), CONFIG, {"MASTER_ADDR": "node1"})
    assert by_hand.argv[:3] == ["python", "-m", "torch.distributed.run"]
    with pytest.raises(UserError, match="MASTER_ADDR"):
        aligner_command(train(), CONFIG, {})


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_two_jobs_that_share_a_node_meet_at_different_ports(launcher):
    def port(number, *overrides):
        environment = {"MASTER_ADDR": "node1"} | ({"SLURM_JOB_ID": number} if number else {})
        chosen = train(f"train.process_launcher={launcher}", *overrides)
        command = aligner_command(chosen, CONFIG, environment)
        told = command.environment["MASTER_PORT"]
        assert launcher == "srun" or f"--rdzv-endpoint=node1:{told}" in command.argv
        return int(told)

    assert port("1234567") == 24567 and port("1234568") == 24568
    assert port("1234567", "train.master_port=29500") == 29500
    if launcher == "torchrun":
        assert port(None) == 29500  # by hand on every node: no job's id to go by
    with pytest.raises(UserError, match=r"train\.master_port"):
        train("train.master_port=80")


def test_srun_starts_a_task_a_gpu_and_takes_further_arguments():
    chosen = train("train.process_launcher=srun", "train.srun_arguments=['--container-image=/i m.sqsh']")
    command = aligner_command(chosen, CONFIG, {"SLURM_JOB_ID": "7"})
    assert command.argv[:7] == [
        "srun",
        "--nodes=2",
        "--ntasks=16",
        "--ntasks-per-node=8",
        "--kill-on-bad-exit=1",
        "--container-image=/i m.sqsh",
        "python",
    ]
    with pytest.raises(UserError, match=r"train\.process_launcher"):
        aligner_command(chosen, CONFIG, {})


def test_a_command_gets_its_environment_and_its_failure_is_told(tmp_path):
    script = "import os, sys; sys.exit(0 if os.environ['A'] + os.environ['B'] == '12' else 3)"
    run_command(Command([sys.executable, "-c", script], {"B": "2"}), {**os.environ, "A": "1"})
    with pytest.raises(UserError, match="exit code 3"):
        run_command(Command([sys.executable, "-c", script], {"B": "3"}), {**os.environ, "A": "1"})
    with pytest.raises(UserError, match="no /nowhere/python"):
        run_command(Command(["/nowhere/python"], {}), {})


SAID = [
    ("[rank3]: RuntimeError: CUDA error: uncorrectable ECC error encountered", 3),
    ("ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.", 3),
    ("[rank0]:[E] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)", 3),
    ("torch.OutOfMemoryError: CUDA out of memory.\nncclSystemError: aborted", 2),
    ("KeyError: 'constant_steps'\nncclRemoteError: remote process exited", 2),
]


@pytest.mark.parametrize("said, code", SAID, ids=[text[:20] for text, _ in SAID])
def test_a_failed_gpu_is_no_mistake(said, code, tmp_path, capfd):
    """By what the program says, this time: it is also printed, as it comes."""
    log = tmp_path / "scratch" / "train.log"
    program = "import sys; print(sys.argv[1], end=''); sys.exit(int(sys.argv[2]))"
    for text in ("ncclSystemError of the last attempt", said):
        with pytest.raises(UserError, match="exit code 1") as caught:
            run_command(Command([sys.executable, "-c", program, text, "1"], {}), os.environ, log=log)
    assert caught.value.exit_code == code and (said.splitlines()[0] in str(caught.value)) == (code == 3)
    lines = [line.partition("Z ")[2] for line in log.read_text().splitlines()]
    assert "\n".join(lines) == said and capfd.readouterr().out.endswith(said)
    run_command(Command([sys.executable, "-c", program, said, "0"], {}), os.environ, log=log)


def test_one_process_runs_where_training_does():
    assert single_process(train(), {}) == []
    in_container = train("train.process_launcher=srun")
    assert single_process(in_container, {"SLURM_JOB_ID": "7"}) == []
    chosen = train("train.process_launcher=srun", "train.srun_arguments=['--container-image=/i m.sqsh']")
    assert single_process(chosen, {"SLURM_JOB_ID": "7"}) == [
        "srun",
        "--nodes=1",
        "--ntasks=1",
        "--kill-on-bad-exit=1",
        "--container-image=/i m.sqsh",
    ]


def test_a_module_that_is_missing_is_named_in_one_line():
    check_importable([], sys.executable, ["json", "nemo_cot.training.nemo"], "nemo_to_hf")
    for modules, python, missing in (
        (["json", "no_such.package"], sys.executable, "no_such.package"),
        (["json"], "/nowhere/python", "/nowhere/python"),
    ):
        with pytest.raises(UserError, match=missing) as caught:
            check_importable([], python, modules, "nemo_to_hf")
        assert "training container" in caught.value.fix and "\n" not in str(caught.value)


def test_whole_checkpoints_count(tmp_path):
    folder = tmp_path / "aligner" / "checkpoints"
    assert saved_steps(tmp_path) == {}
    for step in (10, 20, 30):
        (folder / f"megatron_gpt_sft-step={step}-consumed_samples={step * 8}.0").mkdir(parents=True)
    (folder / "megatron_gpt_sft-step=20-consumed_samples=160.0-last").mkdir()
    (folder / "megatron_gpt_sft-step=30-consumed_samples=240.0-unfinished").touch()
    assert list(saved_steps(tmp_path)) == [10, 20]
    assert saved_steps(tmp_path)[20].name.endswith("160.0")
    with pytest.raises(UserError, match="step 20 of 50"):
        check_finished([10, 20], 50)
    check_finished([10, 20], 20)


def test_the_recipe_prepares_runs_and_checks(tmp_path, capsys):
    """With a stand-in for the container's Python, which writes the checkpoint that training would."""
    import yaml

    from nemo_cot.io.jsonl import write_jsonl
    from nemo_cot.packing.sequences import TokenSequence
    from nemo_cot.recipes.train import train as recipe
    from nemo_cot.stages import RunDirectory, run_stage

    python = tmp_path / "python"
    python.write_text(f"""#!{sys.executable}
import pathlib, sys
config = pathlib.Path(sys.argv[-1])
checkpoints = config.parent / "aligner" / "checkpoints"
(checkpoints / "megatron_gpt_sft-step=2-consumed_samples=8.0").mkdir(parents=True)
""")
    python.chmod(0o755)
    base = tmp_path / "base-nemo"
    base.mkdir()
    (base / "model_config.yaml").touch()
    cfg = load_config(
        [
            "train=nemo_aligner",
            "train/layout=qwen2.5_7b",
            "train.max_steps=2",
            "train.optim.sched.warmup_steps=1",
            "train.global_batch_size=16",
            f"train.nemo_model={base}",
            f"train.python={python}",
            f"runs_dir={tmp_path}",
            "name=r",
            "pack.strategy=shuffle",
        ]
    )
    run = RunDirectory(tmp_path / "r").create()
    for name in ("pack", "convert"):
        run.stage(name).mkdir()
    rows = [
        TokenSequence(problem_id=str(i), sample=0, input_ids=[5] * (20 + i) + [1], num_prompt_tokens=4)
        for i in range(5)
    ]
    write_jsonl(run.stage("pack") / "sequences.jsonl", rows)
    (run.stage("convert") / "model.json").write_text('{"name": "m", "eos_id": 0, "end_of_turn_id": 1}')
    for stage in recipe(cfg):
        run_stage(stage, run)
    folder = run.stage("train")
    report = json.loads((folder / "packing.json").read_text())
    assert (
        f"packing: {report['packs']} packs of at least {report['fewest_packs_possible']},"
        in capsys.readouterr().out
    )
    rendered = yaml.safe_load((folder / "aligner.yaml").read_text())
    packs = rendered["model"]["global_batch_size"]
    assert packs % cfg.train.layout.data_parallel_size == 0
    from nemo_cot.training.nemo_aligner.convention import check_convention

    convention = check_convention(
        folder / "train.npy", packs_per_step=packs, eos_id=0, end_of_turn_id=1, packs=2 * packs
    )
    assert convention.weighting == "literal"
    assert json.loads((folder / "trained.json").read_text())["checkpoints"]["2"].endswith("samples=8.0")
    cut = replace(cfg.train, max_steps=3)
    cfg.train = cut
    with pytest.raises(UserError, match="step 2 of 3"):
        run_stage(next(iter(recipe(cfg))), run)
