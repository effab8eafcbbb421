"""The commands that train, as argument lists: nothing goes through a shell."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from nemo_cot.errors import UserError
from nemo_cot.nemo.config import AlignerTrain

ENTRY = "nemo_cot.nemo.aligner_sft"


class Command(NamedTuple):
    """``environment`` is added to the caller's own."""

    argv: list[str]
    environment: dict[str, str]


def aligner_command(train: AlignerTrain, config: Path, environment: Mapping[str, str]) -> Command:
    """Start one process a GPU on ``config``, the rendered YAML.

    torchrun: run it on every node, inside the container; with several nodes ``environment`` must
    hold MASTER_ADDR, the first node's name. srun: run it once, inside the Slurm job. Raises
    UserError without MASTER_ADDR, or outside of a job.
    """
    entry = ["-m", ENTRY, str(config)]
    if train.process_launcher == "torchrun":
        argv = [train.python, "-m", "torch.distributed.run", *_torchrun(train, environment), *entry]
    else:
        argv = [*_srun(train, environment), train.python, *entry]
    return Command(argv, _environment(train))


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
    endpoint = f"{environment['MASTER_ADDR']}:{train.master_port}"
    return [
        f"--nnodes={layout.num_nodes}",
        processes,
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={endpoint}",
        f"--rdzv-id={environment.get('SLURM_JOB_ID', 'nemo-cot')}",
    ]


def _srun(train: AlignerTrain, environment: Mapping[str, str]) -> list[str]:
    if not environment.get("SLURM_JOB_ID"):
        raise UserError(
            "srun outside of a Slurm job would queue one of its own",
            where="train.process_launcher",
            fix="run it inside the job, or set train.process_launcher=torchrun",
        )
    # One task's failure must end the others: they would wait in NCCL until the time limit.
    return [
        "srun",
        f"--nodes={train.layout.num_nodes}",
        f"--ntasks-per-node={train.layout.gpus_per_node}",
        "--kill-on-bad-exit=1",
        *train.srun_arguments,
    ]


def _environment(train: AlignerTrain) -> dict[str, str]:
    return {
        # Megatron overlaps tensor-parallel communication with computation only if kernels keep their order.
        "CUDA_DEVICE_MAX_CONNECTIONS": "1",
        "MASTER_PORT": str(train.master_port),
        "TOKENIZERS_PARALLELISM": "false",  # its threads and forked workers deadlock
    }


def run_command(command: Command, environment: Mapping[str, str]) -> None:
    """Run to the end. Raises UserError when the program is missing or fails."""
    try:
        code = subprocess.run(
            command.argv, env={**environment, **command.environment}, check=False
        ).returncode
    except FileNotFoundError:
        raise UserError(
            f"there is no {command.argv[0]} here",
            where="train",
            fix="run this stage in the training container, or correct train.python or train.process_launcher",
        ) from None
    if code:
        raise UserError(
            f"training ended with exit code {code}; its own messages are above",
            where="train",
            fix="correct what they say, then run the same command again: it resumes from the last checkpoint",
        )


def saved_step(log_dir: Path) -> int:
    """The highest step that a checkpoint in ``log_dir``/checkpoints names; 0 without any.

    Names are those that exp_manager makes of render_aligner's filename: ...-step=20-consumed_samples=...
    Unfinished ones (NeMo marks them with a file NAME-unfinished) do not count.
    """
    names = {path.name for path in (log_dir / "checkpoints").glob("*step=*")}
    whole = [name for name in names if not name.endswith("-unfinished") and f"{name}-unfinished" not in names]
    steps = [int(found.group(1)) for name in whole if (found := re.search(r"step=(\d+)", name))]
    return max(steps, default=0)


def check_finished(log_dir: Path, max_steps: int) -> None:
    """Raise UserError unless the last step was saved: Aligner ends with exit code 0 at its time limit too."""
    step = saved_step(log_dir)
    if step < max_steps:
        raise UserError(
            f"training stopped after step {step} of {max_steps}, at train.max_time_per_run",
            where="train",
            fix="run the same command again: it resumes there",
        )
