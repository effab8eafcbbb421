"""train=nemo_rl on two nodes: a real Ray over a real Slurm, with a small driver in the place of NeMo-RL.

Needs a Python with ray: .venv/ray (make slurm installs it), or the one that NEMO_COT_RAY names.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_cot.experiment.compose import load_config
from nemo_cot.launchers.slurm import scheduler
from nemo_cot.launchers.slurm.jobs import ChainJob
from nemo_cot.launchers.slurm.record import write_json
from nemo_cot.launchers.slurm.render import Chain, job_arguments, log_pattern, render_script
from nemo_cot.launchers.slurm.snapshot import snapshot
from tests.slurm.conftest import skip_or_fail
from tests.support import SECONDS, wait_for

DRIVER = """
import os, sys, time
import ray
ray.init(address="auto", log_to_driver=False, runtime_env={"env_vars": {"OF_THE_DRIVER": "here"}})
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
group = placement_group([{"GPU": 2, "CPU": 1}] * 2, strategy="STRICT_SPREAD")  # a bundle per node, as NeMo-RL
ray.get(group.ready(), timeout=600)

@ray.remote(num_gpus=2, num_cpus=1)
def where():
    return ray.get_runtime_context().get_node_id(), os.environ["OF_THE_DRIVER"]

at = [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i) for i in range(2)]
found = ray.get([where.options(scheduling_strategy=one).remote() for one in at], timeout=600)
gpus = ray.cluster_resources()["GPU"]
print(f"{len(set(found))} nodes, {gpus:.0f} GPUs, {sys.argv[-1].rpartition('/')[2]}", flush=True)
"""
FAILS = DRIVER + "sys.exit(9)\n"
WAITS = DRIVER + "time.sleep(600)\n"
RECIPE = """
import os, sys
from pathlib import Path
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.training.nemo.command import run_command
from nemo_cot.training.nemo_rl.command import rl_command
from nemo_cot.training.nemo_rl.ray_cluster import is_ours, ray_cluster
train, folder = load_config([a for a in sys.argv[1:] if "=" in a]).train, Path(os.environ["FOLDER"])
assert is_ours(train, os.environ)
command = rl_command(train, folder / "nemo_rl.yaml", folder, os.environ)
try:
    with ray_cluster(train, [command], folder, os.environ) as (on_head, others):
        run_command(on_head, os.environ, beside=others)
except UserError as error:
    print(f"error: {error}", flush=True)
    sys.exit(error.exit_code)
"""


@pytest.fixture(scope="module")
def ray() -> Path:
    """The program ray of a Python that has it."""
    python = Path(os.environ.get("NEMO_COT_RAY") or Path(__file__).parents[2] / ".venv" / "ray" / "bin" / "python")
    if not python.with_name("ray").is_file():
        skip_or_fail(f"no ray beside {python}; make slurm installs it, NEMO_COT_RAY names another Python")
    return python.with_name("ray")


class Job:
    """A training job of two nodes that runs ``driver``."""

    def __init__(self, cluster, ray: Path, folder: Path, driver: str, *more: str) -> None:
        self.cluster = cluster
        tree = folder / "nemo-rl"
        (tree / "examples").mkdir(parents=True)
        (tree / "examples" / "run_sft.py").write_text(driver)
        (folder / "bin").mkdir()
        uv = folder / "bin" / "uv"
        uv.write_text(f'#!/bin/sh\nshift\nexec "{ray.with_name("python")}" "$@"\n')
        uv.chmod(0o755)
        overrides = (
            "cluster=slurm_minimal", "cluster.exclusive=true", "cluster.resources.train.nodes=null",
            "train=nemo_rl", "model=qwen2.5_7b", "model.path=/none",
            "train.layout.num_nodes=2", "train.layout.gpus_per_node=2", f"train.ray={ray}",
            f"train.nemo_rl_directory={tree}", "cluster.resources.train.time_limit='00:20:00'", *more,
        )  # fmt: skip
        cfg = load_config(overrides)
        cfg.cluster.environment = {"FOLDER": str(folder), "RAY_num_prestart_python_workers": "0"}
        run = folder / "run"
        code = snapshot(run, runs_dir=folder)
        (code / "recipes" / "train.py").write_text(RECIPE)
        chain, job = Chain(cfg, run, code, folder, overrides, False), ChainJob("train", "train", "train", ())
        write_json(run / "slurm" / "train.json", job_arguments(job, chain))
        (run / "slurm" / "train.sbatch").write_bytes(render_script(job, chain, "train"))
        (run / "slurm" / "logs").mkdir()
        chosen = scheduler.chosen(cfg.cluster.pass_environment) | {
            "SLURM_CONF": cluster.environment["SLURM_CONF"]
        }
        chosen["PATH"] = f"{folder / 'bin'}:{cluster.environment['PATH']}"
        self.number = scheduler.sbatch([], run / "slurm" / "train.sbatch", chosen)
        self.log = run / "slurm" / log_pattern(job, chain).replace("%j", self.number)
        self.others = folder / "ray_workers.log"

    def said(self) -> str:
        """What job and workers have written."""
        return "".join(path.read_text(errors="replace") for path in (self.log, self.others) if path.is_file())

    def wait(self, *, seconds: float = SECONDS) -> str:
        """Its state, once it has ended."""
        live = scheduler.LIVE
        wait_for(lambda: self.cluster.job(self.number)["JobState"] not in live, seconds=seconds, every=0.5)
        return self.cluster.job(self.number)["JobState"]

    def ray_processes(self) -> list[str]:
        """Of this job's cluster, on both nodes, which are this machine."""
        listed = subprocess.run(
            ["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
        ).stdout
        return [line for line in listed.splitlines() if f"/tmp/ray-{self.number}-" in line]


@pytest.fixture
def job(cluster, ray, tmp_path, monkeypatch):
    for key in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(key, cluster.environment[key])
    made = []

    def make(driver: str, *more: str) -> Job:
        made.append(Job(cluster, ray, tmp_path, driver, *more))
        return made[-1]

    yield make
    for one in made:
        scheduler.cancel([one.number])
        wait_for(lambda one=one: not one.ray_processes(), every=0.5)


def test_the_training_runs_over_both_nodes_and_nothing_is_left(job):
    done = job(DRIVER)
    wait_for(lambda: done.ray_processes(), every=0.2)
    assert done.wait() == "COMPLETED", done.said()
    assert "2 nodes, 4 GPUs, nemo_rl.yaml" in done.said() and "ray: 2 of 2 nodes are there" in done.said()
    wait_for(lambda: not done.ray_processes(), every=0.5)


def test_a_training_that_fails_ends_the_cluster_with_its_exit_code(job):
    failed = job(FAILS)
    assert failed.wait() == "FAILED" and "ended with exit code 9" in failed.said(), failed.said()
    wait_for(lambda: not failed.ray_processes(), every=0.5)


def test_a_cancelled_job_leaves_no_ray(job):
    """As at the time limit: Slurm sends SIGTERM, then SIGKILL."""
    waits = job(WAITS)
    wait_for(lambda: "2 nodes, 4 GPUs" in waits.said(), every=0.5)
    assert waits.ray_processes()
    scheduler.cancel([waits.number])
    waits.wait()
    wait_for(lambda: not waits.ray_processes(), every=0.5)


def test_nodes_that_do_not_come_are_a_fault_with_a_deadline(job, ray, tmp_path):
    """The program of the workers hangs, as a container that is not imported."""
    slow = tmp_path / "slow_ray"
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *--address=*--block*) exec sleep 600;; esac\nexec "{ray}" "$@"\n'
    )
    slow.chmod(0o755)
    late = job(DRIVER, f"train.ray={slow}", "train.ray_wait_seconds=25", "cluster.requeue=false")
    late.wait()
    assert re.search(r"Ray has \d of 2 nodes after 25 s", late.said()), late.said()
    assert "nodes did not come together" in late.said()
    wait_for(lambda: not late.ray_processes(), every=0.5)


def test_the_script_needs_nothing_of_ours():
    from nemo_cot.training.nemo_rl import ray_nodes

    done = subprocess.run(
        [sys.executable, "-I", "-S", ray_nodes.__file__, "head", "/none"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert "FileNotFoundError" in done.stderr
