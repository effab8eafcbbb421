"""The two files of a job: a reviewable sbatch script, and the arguments of the stage as JSON.

Nothing of the user's stands on a #SBATCH line but what the schema has checked (those lines know no
quoting): paths and overrides go through the shell's quoting, or through JSON.
"""

from __future__ import annotations

import functools
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import jinja2

from nemo_cot.config import Config
from nemo_cot.config.cluster import _PATH, ResourcesConfig, plain
from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.recipe import ONLY
from nemo_cot.experiment.rundirs import reused_runs
from nemo_cot.io.paths import user_path
from nemo_cot.launchers.slurm.container import container_prefix, srun_options
from nemo_cot.launchers.slurm.jobs import ChainJob, cluster_of
from nemo_cot.launchers.slurm.record import DRY_RUN_FOLDER, comment_of, folder_of
from nemo_cot.stages import RunDirectory
from nemo_cot.training.backend import backend_of, job_size


@dataclass(frozen=True)
class Chain:
    """What all jobs of a chain share. ``cwd`` is where submit was called: relative paths mean that place."""

    cfg: Config
    run: Path
    code: Path
    cwd: Path
    overrides: tuple[str, ...]
    extra_conf: bool
    dry_run: bool = False

    @property
    def folder(self) -> Path:
        """Where the job files are written."""
        return folder_of(self.run) / DRY_RUN_FOLDER if self.dry_run else folder_of(self.run)


def log_pattern(job: ChainJob, chain: Chain) -> str:
    """The value of --output: relative to the folder of the job files, unless cluster.log_dir is set."""
    log_dir = cluster_of(chain.cfg).log_dir
    place = "logs"
    if log_dir is not None:
        place = str((chain.cwd / user_path(log_dir)) / chain.cfg.name)
        plain(
            "cluster.log_dir", place, _PATH, "a path of letters, digits and _./~@+,=:-, once it is absolute"
        )
    return f"{place}/{job.key}-{'%A_%a' if job.array else '%j'}.log"


def render_script(job: ChainJob, chain: Chain, name: str) -> bytes:
    """The sbatch file. ``name`` is its own file name without the ending."""
    cluster = cluster_of(chain.cfg)
    text = _template().render(
        options=sbatch_options(job, chain),
        title=one_line(f"{job.key} of {chain.run}: nemo-cot submit {shlex.join(chain.overrides)}"),
        file=f"{name}.sbatch",
        arguments=f"{name}.json",
        dry_run=chain.dry_run,
        environment=sorted(cluster.environment.items()),
        setup=cluster.setup,
        command=[
            sys.executable,
            str(chain.code / "nemo_cot" / "launchers" / "slurm" / "job.py"),
            str(chain.folder / f"{name}.json"),
        ],
    )
    return text.encode("utf-8", "surrogateescape")


def sbatch_options(job: ChainJob, chain: Chain) -> list[str]:
    """What stands on the #SBATCH lines; dependencies are added when the ids are known."""
    cluster = cluster_of(chain.cfg)
    _, resources = cluster.resources.of(job.resources)
    named = {
        "job-name": f"{chain.cfg.name}.{job.key}",
        "comment": comment_of(chain.run),
        "account": cluster.account,
        "partition": resources.partition or cluster.partition,
        "qos": resources.qos or cluster.qos,
        "reservation": cluster.reservation,
        "constraint": cluster.constraint,
        "time": resources.time_limit,
        **_size(job, chain),
        "array": ",".join(map(str, job.array)) or None,
        "signal": f"B:USR1@{cluster.warning_seconds}",
        "output": log_pattern(job, chain),
        "open-mode": "append",
        "export": "ALL",  # of sbatch's own environment, which holds nothing but scheduler.chosen
        "kill-on-invalid-dep": "yes",
    }
    flags = [
        "--requeue" if cluster.requeue else "--no-requeue",
        *(["--exclusive"] if cluster.exclusive else []),
    ]
    return (
        [f"--{key}={value}" for key, value in named.items() if value is not None]
        + flags
        + cluster.sbatch_arguments
    )


def job_arguments(job: ChainJob, chain: Chain) -> dict:
    """What job.py reads."""
    cluster = cluster_of(chain.cfg)
    return {
        "key": job.key,
        "recipe": job.recipe,
        "run": str(chain.run),
        "code": str(chain.code),
        "cwd": str(chain.cwd),
        "command": [*_prefix(job, chain), *_recipe(job, chain)],
        "chunks_of": job.stages if job.array else None,
        "continued": job.continued,
        "requeue": cluster.requeue,
        "max_requeues": cluster.max_requeues,
        "max_fault_requeues": cluster.max_fault_requeues,
        "warning_seconds": cluster.warning_seconds,
        "tasks_per_node": tasks_per_node(job, chain.cfg),
        "extra_conf": chain.extra_conf,
    }


def tasks_per_node(job: ChainJob, cfg: Config) -> int:
    """One, but for a training of one task per GPU."""
    by_gpu = job.recipe == "train" and backend_of(cfg.train).task_per_gpu
    return (job_size(cfg, job)[1] or 1) if by_gpu else 1


def _srun_trains(job: ChainJob, cfg: Config) -> bool:
    return job.recipe == "train" and backend_of(cfg.train).started_by_srun


def _size(job: ChainJob, chain: Chain) -> dict[str, object]:
    cluster = cluster_of(chain.cfg)
    key, resources = cluster.resources.of(job.resources)
    nodes, gpus = job_size(chain.cfg, job)
    tasks = tasks_per_node(job, chain.cfg)
    kind = f"{cluster.gpu_type}:" if cluster.gpu_type else ""
    return {
        "nodes": nodes,
        "ntasks-per-node": tasks,
        "cpus-per-task": _cpus_per_task(key, resources, tasks),
        "gpus-per-node": f"{kind}{gpus}" if gpus else None,
        "mem": resources.memory,
    }


def _cpus_per_task(key: str, resources: ResourcesConfig, tasks: int) -> int | None:
    if resources.cpus_per_node is None:
        return None
    if resources.cpus_per_node < tasks:
        raise UserError(
            f"{resources.cpus_per_node} cores for {tasks} tasks per node",
            where=f"{key}.cpus_per_node",
            fix=f"set it to {tasks} or more",
        )
    return resources.cpus_per_node // tasks


def _prefix(job: ChainJob, chain: Chain) -> list[str]:
    """A training that srun starts is in the container by srun's own options: the recipe stays outside."""
    if _srun_trains(job, chain.cfg):
        return []
    container = cluster_of(chain.cfg).container
    return container_prefix(container, _image(job, chain), _folders(chain), gpus=_may_use_gpus(job, chain))


def _folders(chain: Chain) -> tuple[Path, ...]:
    """What a container sees of ours: also the digests that submit has remembered, or each job would hash again."""
    return (chain.cwd, chain.run, chain.code, RunDirectory(chain.run).hashes, *reused_runs(chain.cfg).values())


def _may_use_gpus(job: ChainJob, chain: Chain) -> bool:
    """The kind cpu needs none. Another kind may find GPUs that it did not ask for: not every Slurm counts them."""
    key, resources = cluster_of(chain.cfg).resources.of(job.resources)
    return bool(resources.gpus_per_node) or not key.endswith(".cpu")


def _image(job: ChainJob, chain: Chain) -> str | None:
    cluster = cluster_of(chain.cfg)
    return cluster.resources.of(job.resources)[1].image or cluster.container.image


def _recipe(job: ChainJob, chain: Chain) -> list[str]:
    """By path: with -m, a folder named recipes in the working directory would be run instead."""
    recipe = str(chain.code / "nemo_cot" / "recipes" / f"{job.recipe}.py")
    only = [] if job.array else [word for stage in job.stages for word in (ONLY, stage)]  # a task adds its own chunks
    overrides = [*chain.overrides, *job.overrides, *_srun_overrides(job, chain)]
    return [_python(job, chain), recipe, *overrides, *only]


def _python(job: ChainJob, chain: Chain) -> str:
    """The interpreter of the recipe. Outside of a container, by default the one that runs submit; so too
    for a training that srun starts, whose profile's interpreter lies in the container.
    """
    cluster = cluster_of(chain.cfg)
    contained = cluster.container.runtime != "none"
    if contained and _srun_trains(job, chain.cfg):
        return sys.executable
    own = cluster.resources.of(job.resources)[1].python or cluster.python
    return own or ("python" if contained else sys.executable)


def _srun_overrides(job: ChainJob, chain: Chain) -> list[str]:
    """The container of a training that srun starts, unless the user named one."""
    container = cluster_of(chain.cfg).container
    if container.runtime == "none":
        return []
    inside = srun_options(container, _image(job, chain), _folders(chain)) if _srun_trains(job, chain.cfg) else None
    return backend_of(chain.cfg.train).in_container(job.recipe, inside)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # a shell script: every value goes through the filter quote
    )
    environment.filters["quote"] = shlex.quote
    return environment.get_template("job.sbatch.j2")
