"""Two nodes: one that goes down, and trainings over both (a small gloo program in the place of NeMo-Aligner)."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.launchers.slurm import scheduler
from nemo_cot.launchers.slurm.jobs import ChainJob
from nemo_cot.launchers.slurm.record import read_submission, write_json, write_submission
from nemo_cot.launchers.slurm.render import Chain, job_arguments, log_pattern, render_script
from nemo_cot.launchers.slurm.snapshot import snapshot
from tests.slurm import conftest as ours
from tests.slurm.cluster import NODES
from tests.slurm.test_failures import LONG
from tests.support import one_error, wait_for

GLOO = """
import os
import torch, torch.distributed as dist
rank, world = (int(os.environ.get(ours) or os.environ[slurms]) for ours, slurms in
               (("RANK", "SLURM_PROCID"), ("WORLD_SIZE", "SLURM_NTASKS")))
where = f"tcp://{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
dist.init_process_group("gloo", init_method="env://" if "RANK" in os.environ else where, rank=rank, world_size=world)
total = torch.ones(1) * (rank + 1)
dist.all_reduce(total)
where = os.environ["SLURMD_NODENAME"]
os.write(1, f"rank {rank} of {world} on {where}: sum {total.item():.0f}\\n".encode())  # in one piece
dist.destroy_process_group()
"""

RECIPE = """
import os, sys
from pathlib import Path
from nemo_cot.training.nemo.command import run_command
from nemo_cot.training.nemo_aligner.command import aligner_command
from nemo_cot.experiment.compose import load_config
command = aligner_command(load_config([a for a in sys.argv[1:] if "=" in a]).train, Path("unused.yaml"), os.environ)
# instead of -m nemo_cot.training.nemo_aligner.aligner_sft unused.yaml
run_command(command._replace(argv=[*command.argv[:-3], os.environ["PROGRAM"]]), os.environ)
"""

WAITS = """
import os, time
from pathlib import Path
(Path(__file__).parent / f"up-{os.getpid()}").touch()
time.sleep(600)
"""

KILLED = """
import os, subprocess, sys, time
from pathlib import Path

def alive():  # on both nodes, which are this machine
    pids = [path.name.partition("-")[2] for path in Path(os.environ["PROGRAM"]).parent.glob("up-*")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

recipe = subprocess.Popen([sys.executable, Path(__file__).with_name("killed.py"), *sys.argv[1:]])
while len(alive()) < 4:
    time.sleep(0.2)
recipe.kill()
deadline = time.monotonic() + 600
while alive() and time.monotonic() < deadline:
    time.sleep(0.2)
print("ranks left:", len(alive()), flush=True)
"""


@pytest.fixture
def trained(cluster, tmp_path, monkeypatch):
    """What a job of two nodes writes whose recipe and program, which each rank runs, are these."""

    def train(launcher: str, program: str, recipe: str = RECIPE) -> str:
        overrides = (
            "cluster=slurm_minimal", "train=nemo_aligner", "model=qwen2.5_7b", "model.path=/models/none", f"train.process_launcher={launcher}",
            "train.layout.num_nodes=2", "train.layout.gpus_per_node=2", f"train.python={sys.executable}",
            "cluster.resources.train.nodes=null", "cluster.resources.train.cpus_per_node=4",
        )  # fmt: skip
        cfg = load_config(overrides)
        cfg.cluster.environment = {"PROGRAM": str(tmp_path / "program.py"), "OMP_NUM_THREADS": "1"}
        (tmp_path / "program.py").write_text(program)
        run = tmp_path / "run"
        code = snapshot(run, runs_dir=tmp_path)
        (code / "recipes" / "train.py").write_text(recipe)
        (code / "recipes" / "killed.py").write_text(RECIPE)
        chain = Chain(cfg, run, code, tmp_path, overrides, False)
        job = ChainJob("train", "train", "train", ())
        write_json(run / "slurm" / "train.json", job_arguments(job, chain))
        (run / "slurm" / "train.sbatch").write_bytes(render_script(job, chain, "train"))
        (run / "slurm" / "logs").mkdir()
        for key in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(key, cluster.environment[key])
        number = scheduler.sbatch(
            [], run / "slurm" / "train.sbatch", scheduler.chosen(cfg.cluster.pass_environment)
        )
        wait_for(lambda: cluster.job(number)["JobState"] not in scheduler.LIVE, every=0.2)
        said = (run / "slurm" / log_pattern(job, chain).replace("%j", number)).read_text()
        assert cluster.job(number)["JobState"] == "COMPLETED", said
        return said

    return train


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_four_ranks_on_two_nodes_meet(trained, launcher):
    said = trained(launcher, GLOO)
    found = re.findall(r"rank (\d) of 4 on (node\d): sum 10\n", said)
    assert sorted(rank for rank, _ in found) == ["0", "1", "2", "3"], said
    assert sorted(node for _, node in found) == ["node1", "node1", "node2", "node2"], said


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_the_ranks_of_both_nodes_end_with_a_recipe_that_is_killed(trained, launcher):
    """The job goes on, so it is not Slurm that ends them."""
    said = trained(launcher, WAITS, KILLED)
    assert "ranks left: 0" in said, said


def test_a_node_that_goes_down_sends_the_job_to_the_other_one(chain: ours.Chain):
    job = chain.submit(*LONG, "train.save_interval_steps=1")["train"]
    chain.wait_log("train", "steps  loss")
    node = chain.cluster.job(job)["NodeList"]
    chain.cluster.stop_node(node)
    try:
        chain.wait_log("train", "restart 1")
        chain.wait_log("train", "[train] resumes; attempt 2")
        assert chain.cluster.job(job)["NodeList"] not in (node, "(null)")
    finally:
        chain.call("cancel")
        chain.cluster.start_nodes(node)


def test_a_node_that_is_drained_keeps_its_job_and_gets_no_other(fresh: ours.Chain):
    """Slurm lets the job end there; the next stages run on the other node."""
    started = fresh.submit("train.max_steps=60")
    fresh.wait_log("train", "steps  loss")
    node = fresh.cluster.job(started["train"])["NodeList"]
    fresh.cluster.call("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    try:
        assert set(fresh.wait_end().values()) == {"COMPLETED"}, fresh.told()
        jobs = {stage: fresh.cluster.job(number) for stage, number in started.items()}
    finally:
        fresh.cluster.call("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert jobs["train"]["NodeList"] == node and jobs["train"]["Restarts"] == "0"
    assert jobs["report"]["NodeList"] not in (node, "(null)")


@pytest.mark.parametrize("state", ["drained", "down"])
def test_while_no_node_is_there_a_chain_is_queued_with_a_note(fresh: ours.Chain, state):
    """And what no node could ever run is refused then, too."""
    cluster = fresh.cluster
    fresh.overrides += ["launcher.stages=[problems]"]
    try:
        if state == "drained":
            cluster.call("scontrol", "update", "NodeName=node[1-2]", "State=DRAIN", "Reason=test")
        else:
            for node in NODES:
                cluster.stop_node(node)
        never = ["name=b", "cluster.resources.cpu.gpus_per_node=9"]
        refused = fresh.call("submit", *ours.PROFILE, *never, check=False)
        one_error(refused, "sbatch", "equested node configuration is not available")
        said = fresh.call("submit", *ours.PROFILE).stdout
        assert "note: 0 of 2 nodes are up where problems will run" in said
        assert fresh.state(fresh.ids()["problems"]) == "PENDING"
    finally:
        if state == "drained":
            cluster.call("scontrol", "update", "NodeName=node[1-2]", "State=RESUME")
        else:
            cluster.start_nodes(*NODES)
    assert fresh.wait_end() == {"problems": "COMPLETED"}, fresh.told()


def test_a_partition_that_takes_no_jobs_is_a_fault(fresh: ours.Chain):
    fresh.cluster.call("scontrol", "update", "PartitionName=low", "State=DRAIN")
    try:
        closed = fresh.call("submit", *ours.PROFILE, "cluster.partition=low", check=False)
    finally:
        fresh.cluster.call("scontrol", "update", "PartitionName=low", "State=UP")
    one_error(closed, "partition not available", "run the same command again", code=3)


def test_jobs_of_others_with_the_ids_of_an_earlier_chain_are_left_alone(fresh: ours.Chain):
    """As on a second cluster, where the user has jobs with the ids that the first one gave."""
    fresh.overrides += ["launcher.stages=[problems]"]
    fresh.submit()
    fresh.wait_end()
    held = ["sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true"]
    other = fresh.cluster.call(*held).strip()
    before = read_submission(fresh.run)
    mine = replace(before, jobs=[replace(before.jobs[0], id=other)])
    write_submission(fresh.run, mine)
    assert "no job of" in fresh.call("cancel").stdout and "pending" not in fresh.call("status").stdout
    write_submission(fresh.run, replace(mine, cluster="another"))
    one_error(fresh.call("cancel", check=False), "submitted to the cluster another, and this is test")
    assert fresh.state(other) == "PENDING"
    fresh.cluster.call("scancel", other)
    again = fresh.call("submit", *ours.PROFILE, "problems.seed=9").stdout
    assert "note: the last chain was submitted to the cluster another" in again
    assert fresh.wait_end() == {"problems": "COMPLETED"}, fresh.told()
