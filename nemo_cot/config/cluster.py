"""Schema of a cluster profile (conf/cluster): where `nemo-cot submit` sends a chain. No defaults here.

Whatever ends on a #SBATCH line is checked against a narrow pattern: those lines know no quoting.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar, Optional

from nemo_cot.config.checks import at_least, between, one_of
from nemo_cot.errors import UserError

_OWNED = (
    "account", "array", "chdir", "clusters", "comment", "constraint", "cpus-per-task", "dependency", "error",
    "exclusive", "export", "export-file", "get-user-env", "gpus-per-node", "hold", "job-name",
    "kill-on-invalid-dep", "mem", "no-requeue", "nodes", "ntasks-per-node", "open-mode", "output", "parsable",
    "partition", "qos", "requeue", "reservation", "signal", "test-only", "time", "wait", "wrap",
)  # fmt: skip
"""Options of sbatch that the submission sets itself, or that would undo what a chain of jobs rests on."""
_NOT_FOR_SRUN = {
    "--container-image": "set cluster.container.image or cluster.resources.KIND.image",
    "--container-mounts": "set cluster.container.mounts",
    "--container-workdir": "leave it out: a stage starts in the directory of the submission",
    "--export": "leave it out: a stage has all variables of its job",
}
"""Options of srun that the launcher sets, with the key or reason."""
_NEEDS_ENVIRONMENT = (
    "leave it out: variables tell a stage its code, its part of the run and its place in the job"
)
_NOT_FOR_APPTAINER = {
    "--container-": "leave it out: it is an option of pyxis, for cluster.container.pyxis_arguments",
    "--no-container-": "leave it out: it is an option of pyxis, for cluster.container.pyxis_arguments",
    **dict.fromkeys(("--cleanenv", "--containall", "-e", "-C"), _NEEDS_ENVIRONMENT),
}
"""Beginnings of arguments that `apptainer exec` does not know, or that a stage would not survive."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,@+:/-]*")
_CONSTRAINT = re.compile(r"[A-Za-z0-9_(\[][A-Za-z0-9_.,:@&|!*()\[\]-]*")
_MEMORY = re.compile(r"\d+[KMGT]?")
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d{1,3}):(?P<minutes>\d\d):(?P<seconds>\d\d)")
_PATH = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9_./@+,=:-]*")
_ARGUMENT = re.compile(r"--[a-z][a-z-]*(=[A-Za-z0-9_.,:;@+/=\[\]&|*-]+)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(
    r"TOKEN(?!IZER)|SECRET|(?<!BY)PASS|_PWD$|CREDENTIAL|KEY\d*(_|$)|(?<!COM)PAT\d*$", re.IGNORECASE
)


@dataclass
class ClusterConfig:
    """``scheduler``: none (no cluster is chosen), or slurm, which is :class:`SlurmCluster`."""

    slurm: ClassVar[SlurmCluster | None] = None
    """Itself, where it is a Slurm cluster."""

    scheduler: str

    def __post_init__(self) -> None:
        one_of("cluster.scheduler", self.scheduler, ("none", "slurm"))


@dataclass
class ResourcesConfig:
    """What one kind of stage asks for. null: not asked for (``nodes`` and ``gpus_per_node`` of train:
    those of train.layout). ``memory`` is that of a node, as Slurm writes it; 0 is all of it.
    ``time_limit``: HH:MM:SS or D-HH:MM:SS. ``partition``, ``qos``, ``image``, ``python`` null:
    the profile's own.
    """

    nodes: Optional[int]  # noqa: UP045 (OmegaConf reads Optional on Python 3.10)
    gpus_per_node: Optional[int]  # noqa: UP045
    cpus_per_node: Optional[int]  # noqa: UP045
    memory: Optional[str]  # noqa: UP045
    time_limit: str
    partition: Optional[str]  # noqa: UP045
    qos: Optional[str]  # noqa: UP045
    image: Optional[str]  # noqa: UP045
    python: Optional[str]  # noqa: UP045

    def check(self, key: str) -> None:
        """Raise UserError for a value that sbatch would not take; ``key`` is where this stands."""
        for name, least in (("nodes", 1), ("gpus_per_node", 0), ("cpus_per_node", 1)):
            if getattr(self, name) is not None:
                at_least(f"{key}.{name}", getattr(self, name), least)
        plain(f"{key}.memory", self.memory, _MEMORY, "a number, with K, M, G or T behind it")
        plain(f"{key}.partition", self.partition, _NAME)
        plain(f"{key}.qos", self.qos, _NAME)
        seconds_of_limit(f"{key}.time_limit", self.time_limit)


Placed = Callable[[str], tuple[str, ResourcesConfig]]
"""The config key and the resources of what a recipe takes."""


@dataclass
class ResourceClasses:
    """The kinds of stages. ``cpu``: problems, convert (to a Hugging Face directory), grade, curate, pack,
    report, transform, the merging of chunks and the scores; ``conversion``: to NeMo and back; ``generate``: refine too.
    """

    cpu: ResourcesConfig
    conversion: ResourcesConfig
    generate: ResourcesConfig
    train: ResourcesConfig
    evaluate: ResourcesConfig

    def of(self, kind: str) -> tuple[str, ResourcesConfig]:
        """The config key and the resources of a kind. Raises UserError for one that there is not."""
        one_of("Stage.resources", kind, [field.name for field in fields(self)])
        return f"cluster.resources.{kind}", getattr(self, kind)


@dataclass
class ContainerConfig:
    """``runtime``: none; pyxis (options of srun); apptainer (a command before the recipe's own).

    ``image``: docs/container.md lists what each runtime takes. ``mounts``: SOURCE:TARGET[:FLAGS]. The
    run directory, the code and the directory of the submission are mounted besides.
    ``pyxis_arguments`` go to srun, ``apptainer_arguments`` to `apptainer exec`, as they are; those of
    the other runtime go nowhere.
    """

    runtime: str
    image: Optional[str]  # noqa: UP045
    mounts: list[str]
    pyxis_arguments: list[str]
    apptainer_arguments: list[str]

    def __post_init__(self) -> None:
        one_of("cluster.container.runtime", self.runtime, ("none", "pyxis", "apptainer"))
        for mount in self.mounts:
            self._check_mount(mount)
        for argument in self.pyxis_arguments:
            _refuse_argument("cluster.container.pyxis_arguments", argument, _NOT_FOR_SRUN)
        for argument in self.apptainer_arguments:
            _refuse_argument("cluster.container.apptainer_arguments", argument, _NOT_FOR_APPTAINER)

    def _check_mount(self, mount: str) -> None:
        found = re.fullmatch(r"/[^:,\x00-\x1f]*:/[^:,\x00-\x1f]*(:[a-z+]+)?", mount)
        if not found:
            raise UserError(
                f"{mount!r} is not SOURCE:TARGET with absolute paths (no commas, no further colons)",
                where="cluster.container.mounts",
                fix="for example /data:/data:ro",
            )
        if self.runtime == "apptainer" and found[1] not in (None, ":ro", ":rw"):
            raise UserError(
                f"{mount!r} ends in flags of pyxis; apptainer knows ro and rw",
                where="cluster.container.mounts",
                fix="for example /data:/data:ro",
            )


@dataclass
class SlurmCluster(ClusterConfig):
    """One Slurm cluster and one allocation on it.

    ``warning_seconds``: how long before its time limit a job is warned, so that it saves and requeues
    itself, at most ``max_requeues`` times; of these at most ``max_fault_requeues`` after a fault of a machine or a
    server. ``train_jobs``: that many training jobs in a chain, each
    going on where the one before it stopped. ``pass_environment`` names variables that jobs get from
    the shell of the submission: secrets go this way, and into no file. ``environment`` is written
    into the job files. ``setup`` holds shell commands, run as they are. ``python`` runs the recipes;
    null: that of the submission, or python in a container. ``log_dir`` null: slurm/logs in the run directory.
    """

    account: Optional[str]  # noqa: UP045
    partition: Optional[str]  # noqa: UP045
    qos: Optional[str]  # noqa: UP045
    reservation: Optional[str]  # noqa: UP045
    constraint: Optional[str]  # noqa: UP045
    exclusive: bool
    gpu_type: Optional[str]  # noqa: UP045
    requeue: bool
    max_requeues: int
    max_fault_requeues: int
    warning_seconds: int
    train_jobs: int
    sbatch_arguments: list[str]
    log_dir: Optional[str]  # noqa: UP045
    python: Optional[str]  # noqa: UP045
    setup: list[str]
    environment: dict[str, str]
    pass_environment: list[str]
    container: ContainerConfig
    resources: ResourceClasses

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("account", "partition", "qos", "reservation", "gpu_type"):
            plain(f"cluster.{name}", getattr(self, name), _NAME)
        plain("cluster.constraint", self.constraint, _CONSTRAINT)
        plain("cluster.log_dir", self.log_dir, _PATH, "a path of letters, digits and _./~@+,=:-")
        for argument in self.sbatch_arguments:
            plain(
                "cluster.sbatch_arguments",
                argument,
                _ARGUMENT,
                "one option of sbatch: --name or --name=value",
            )
            _refuse_owned(argument)
        between("cluster.max_requeues", self.max_requeues, 0, 1000)
        between("cluster.max_fault_requeues", self.max_fault_requeues, 0, 1000)
        between("cluster.train_jobs", self.train_jobs, 1, 100)
        between("cluster.warning_seconds", self.warning_seconds, 1, 65535)  # what sbatch takes
        self._check_environment()
        self._check_resources()

    @property
    def slurm(self) -> SlurmCluster:  # type: ignore[override]
        """Itself."""
        return self

    def _check_environment(self) -> None:
        for name in (*self.environment, *self.pass_environment):
            plain("cluster.environment and pass_environment", name, _VARIABLE, "the name of a variable")
        for line in (*self.setup, *self.environment.values()):
            if "\0" in line:
                raise UserError("holds a NUL", where="cluster.setup or cluster.environment", fix="remove it")
        for name in self.environment:
            if looks_secret(name):
                raise UserError(
                    f"{name} looks like a secret, and would be written into the job files",
                    where="cluster.environment",
                    fix=f"export it in your shell, and put {name} into cluster.pass_environment",
                )

    def _check_resources(self) -> None:
        for kind in ("cpu", "conversion", "generate", "train", "evaluate"):
            resources = getattr(self.resources, kind)
            resources.check(f"cluster.resources.{kind}")
            limit = seconds_of_limit(f"cluster.resources.{kind}.time_limit", resources.time_limit)
            if self.warning_seconds >= limit:
                raise UserError(
                    f"a warning {self.warning_seconds} s before the end of {limit} s comes before the start",
                    where=f"cluster.resources.{kind}.time_limit",
                    fix="raise it, or lower cluster.warning_seconds",
                )


def looks_secret(name: str) -> bool:
    """Whether a variable of this name is likely to hold a secret, as HF_TOKEN, OPENAI_KEY1 or GITHUB_PAT."""
    return _SECRET.search(name) is not None


def plain(key: str, value: str | None, pattern: re.Pattern, what: str = "a plain name") -> None:
    """Raise UserError unless ``value`` is null or matches ``pattern`` as a whole."""
    if value is not None and not pattern.fullmatch(value):
        raise UserError(f"{value!r} is not {what}", where=key, fix=f"correct {key}")


def _refuse_owned(argument: str) -> None:
    """sbatch takes an option's name cut short, too."""
    name = argument.removeprefix("--").partition("=")[0]
    if owned := next((option for option in _OWNED if option.startswith(name)), None):
        raise UserError(
            f"--{owned} is the launcher's own",
            where="cluster.sbatch_arguments",
            fix="leave it out; cluster.account, cluster.requeue, cluster.resources, ... set what can be set",
        )


def _refuse_argument(key: str, argument: str, refused: dict[str, str]) -> None:
    """Raise UserError for an argument that begins as one of ``refused``; a value may follow it."""
    name = argument.partition("=")[0]
    for start, fix in refused.items():
        if name == start or (start.endswith("-") and name.startswith(start)):
            raise UserError(f"{name} cannot be used here", where=key, fix=fix)


def bytes_of_memory(text: str | None) -> int | None:
    """Bytes of what --mem takes (megabytes without a letter); None for all of the node, or nothing asked for."""
    if text is None or not int(text.rstrip("KMGT")):
        return None
    return int(text.rstrip("KMGT")) * 1024 ** (1 + "KMGT".index(text[-1] if text[-1] in "KMGT" else "M"))


def seconds_of_limit(key: str, text: str) -> int:
    """Seconds of HH:MM:SS or D-HH:MM:SS. Raises UserError."""
    found = _TIME.fullmatch(text)
    if not found or not any(int(part or 0) for part in found.groups()):
        raise UserError(
            f"{text!r} is no time limit", where=key, fix="write HH:MM:SS or D-HH:MM:SS, as in '04:00:00'"
        )
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
