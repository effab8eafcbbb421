"""Ray over the nodes of a Slurm job, for as long as a training runs."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.io.json_file import write_json
from nemo_cot.serving.process import Process, held_locks
from nemo_cot.training.nemo.command import Command, job_port, srun
from nemo_cot.training.nemo_rl import ray_nodes
from nemo_cot.training.nemo_rl.config import NemoRlTrain

SPEC, WORKERS_LOG = "ray.json", "ray_workers.log"
_NO_ADDRESS = ("", "auto", "local")
"""What RAY_ADDRESS may hold without naming a cluster."""


def named_address(environment: Mapping[str, str]) -> str | None:
    """The cluster that RAY_ADDRESS names, if any."""
    named = environment.get("RAY_ADDRESS", "")
    return None if named in _NO_ADDRESS else named


def is_ours(train: NemoRlTrain, environment: Mapping[str, str]) -> bool:
    """Whether the training starts Ray over several nodes itself. Raises UserError where nothing could."""
    if train.layout.num_nodes == 1 or named_address(environment):
        return False
    if not environment.get("SLURM_JOB_ID") or not environment.get("MASTER_ADDR"):
        raise UserError(
            f"{train.layout.num_nodes} nodes, and neither a Slurm job nor a Ray cluster that spans them",
            where="RAY_ADDRESS",
            fix="submit the chain (nemo-cot submit), name a Ray cluster in RAY_ADDRESS, or set "
            "train.layout.num_nodes=1",
        )
    return True


@contextlib.contextmanager
def ray_cluster(
    train: NemoRlTrain, commands: Sequence[Command], folder: Path, environment: Mapping[str, str]
) -> Iterator[tuple[Command, Process]]:
    """The command that runs ``commands`` on the head of a new cluster, and the other nodes' process beside it.

    The other nodes join while the block lasts; both end with this process, however that ends. Written into
    ``folder``: ray.json (what every node is told) and ray_workers.log.
    """
    first, layout = environment["MASTER_ADDR"], train.layout
    try:
        address = socket.gethostbyname(first)
    except OSError as error:
        raise UserError(
            f"{error.strerror}", where=f"MASTER_ADDR={first}", fix="name the job's first node"
        ) from None
    spec = {
        "ray": train.ray,
        "address": address,
        "port": job_port(environment),
        "gpus": layout.gpus_per_node,
        "nodes": layout.num_nodes,
        "wait_seconds": train.ray_wait_seconds,
        # Short, for the sockets in it, and this job's own: Ray takes up what others left in /tmp/ray.
        "temporary": f"/tmp/ray-{environment['SLURM_JOB_ID']}-{environment.get('SLURM_RESTART_COUNT', '0')}",
        "commands": [
            {**command._asdict(), "directory": str(command.directory or "")} for command in commands
        ],
    }
    write_json(folder / SPEC, spec)
    node = ["python3", "-I", str(Path(ray_nodes.__file__).resolve())]
    others = layout.num_nodes - 1
    head = srun(1, 1, [f"--nodelist={first}", "--overlap", *train.srun_arguments])
    workers = srun(others, others, [f"--exclude={first}", "--overlap", *train.srun_arguments])
    with Process(
        [*workers, *node, "worker", str(folder / SPEC)],
        folder / WORKERS_LOG,
        cwd=Path.cwd(),
        environment=os.environ,
        patience_seconds=ray_nodes._GRACE_SECONDS,
        keeps=held_locks(),
    ) as beside:
        yield Command([*head, *node, "head", str(folder / SPEC)], {}), beside
