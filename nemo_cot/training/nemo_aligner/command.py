"""NeMo-Aligner's commands, as argument lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.training.nemo.command import Command, job_port, srun
from nemo_cot.training.nemo_aligner.config import AlignerTrain

ENTRY = "nemo_cot.training.nemo_aligner.aligner_sft"


def aligner_command(train: AlignerTrain, config: Path, environment: Mapping[str, str]) -> Command:
    """Start one process a GPU on ``config``, the rendered YAML.

    torchrun: a launcher a node; with several nodes ``environment`` must hold MASTER_ADDR, the first
    node's name. Inside a Slurm job srun starts the launchers; elsewhere run it on every node. srun: a
    task a GPU; run it once, inside the Slurm job. Raises UserError without MASTER_ADDR, or outside of
    a job.
    """
    entry = ["-m", ENTRY, str(config)]
    if train.process_launcher == "torchrun":
        torchrun = [train.python, "-m", "torch.distributed.run", *_torchrun(train, environment), *entry]
        # Of a Slurm job on several nodes srun starts it on each.
        several = train.layout.num_nodes > 1 and environment.get("SLURM_JOB_ID")
        argv = [*(_srun(train, environment, 1) if several else []), *torchrun]
    else:
        argv = [*_srun(train, environment, train.layout.gpus_per_node), train.python, *entry]
    return Command(argv, _environment(train, environment))


def _torchrun(train: AlignerTrain, environment: Mapping[str, str]) -> list[str]:
    layout = train.layout
    processes = f"--nproc-per-node={layout.gpus_per_node}"
    if layout.num_nodes == 1:
        return ["--standalone", processes]
    if not environment.get("MASTER_ADDR"):
        raise UserError(
            f"{layout.num_nodes} nodes, and nothing says where they meet",
            where="MASTER_ADDR",
            fix="export MASTER_ADDR=the first node's name on every node, or set train.process_launcher=srun",
        )
    endpoint = f"{environment['MASTER_ADDR']}:{master_port(train, environment)}"
    return [
        f"--nnodes={layout.num_nodes}",
        processes,
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={endpoint}",
        f"--rdzv-id={environment.get('SLURM_JOB_ID', 'nemo-cot')}",
    ]


def _srun(train: AlignerTrain, environment: Mapping[str, str], tasks_per_node: int) -> list[str]:
    if not environment.get("SLURM_JOB_ID"):
        raise UserError(
            "srun outside of a Slurm job would queue one of its own",
            where="train.process_launcher",
            fix="run it inside the job, or set train.process_launcher=torchrun",
        )
    nodes = train.layout.num_nodes
    return srun(nodes, nodes * tasks_per_node, train.srun_arguments)


def master_port(train: AlignerTrain, environment: Mapping[str, str]) -> int:
    """Where all ranks meet on the first node: the port that is named, or the job's own."""
    return job_port(environment) if train.master_port is None else train.master_port


def _environment(train: AlignerTrain, environment: Mapping[str, str]) -> dict[str, str]:
    return {
        # Megatron overlaps tensor-parallel communication with computation only if kernels keep their order.
        "CUDA_DEVICE_MAX_CONNECTIONS": "1",
        "MASTER_PORT": str(master_port(train, environment)),
        "TOKENIZERS_PARALLELISM": "false",  # its threads and forked workers deadlock
    }


def single_process(train: AlignerTrain, environment: Mapping[str, str]) -> list[str]:
    """What starts one process where training runs: srun, when its arguments name the container; else
    the recipe is in it already.
    """
    if not train.srun_arguments or not environment.get("SLURM_JOB_ID"):
        return []
    return ["srun", "--nodes=1", "--ntasks=1", "--kill-on-bad-exit=1", *train.srun_arguments]
