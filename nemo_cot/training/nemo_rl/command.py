"""NeMo-RL's commands, as argument lists, with the directory and the environment they need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.io.paths import user_path
from nemo_cot.training.nemo.command import Command
from nemo_cot.training.nemo_rl import check as rl_check
from nemo_cot.training.nemo_rl.config import NemoRlTrain
from nemo_cot.training.nemo_rl.ray_cluster import named_address

ENTRY = Path("examples/run_sft.py")
MEGATRON_BASE = "megatron_base"


def rl_command(train: NemoRlTrain, config: Path, folder: Path, environment: Mapping[str, str]) -> Command:
    """Train on ``config``, the rendered YAML; ``folder`` is the stage's.

    It joins the Ray cluster that RAY_ADDRESS names, or starts a new one on its node: NeMo-RL asks for "auto",
    any Ray cluster that has a process on the node or left its address in /tmp/ray, of whatever job or user,
    and a temporary folder of one's own does not keep Ray from it.
    """
    argv = ["uv", "run", str(ENTRY), "--config", str(config)]
    ray = {"RAY_ADDRESS": named_address(environment) or "local"}
    return Command(argv, {**rl_environment(folder), **ray}, user_path(train.nemo_rl_directory))


def check_command(train: NemoRlTrain, config: Path, expected: Path, folder: Path) -> Command:
    """Compare the tokens that NeMo-RL makes of the rows of ``config`` with ours, in its own environment."""
    # -P: the script's folder must not come first on the path, where its neighbours would hide libraries.
    script = str(Path(rl_check.__file__).resolve())
    argv = ["uv", "run", "python", "-P", script, str(config), str(expected)]
    return Command(argv, rl_environment(folder), user_path(train.nemo_rl_directory))


def rl_environment(folder: Path) -> dict[str, str]:
    """Added for every program of NeMo-RL that works for the train stage's ``folder``."""
    return {
        # It keeps converted base models by the name of their path, and uses them again whatever is in that
        # path now: so each run has a place of its own.
        "NRL_MEGATRON_CHECKPOINT_DIR": str(folder / MEGATRON_BASE),
        "HF_DATASETS_CACHE": str(folder / "scratch" / "datasets"),
        "HF_HUB_OFFLINE": "1",  # everything is a local path
        "TOKENIZERS_PARALLELISM": "false",  # its threads and forked workers deadlock
    }


def check_source_tree(directory: Path, stage: str) -> None:
    """Raise UserError unless NeMo-RL's source tree and uv are here."""
    if not (directory / ENTRY).is_file():
        raise UserError(
            f"NeMo-RL's {ENTRY} is not in {directory}",
            where=stage,
            fix="run this stage in NeMo-RL's container, or correct train.nemo_rl_directory",
        )
    if shutil.which("uv", path=os.environ.get("PATH")) is None:
        raise UserError("there is no uv here", where=stage, fix="run this stage in NeMo-RL's container")
