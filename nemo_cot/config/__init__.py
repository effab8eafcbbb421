"""The schema of every config value: plain dataclasses, without defaults.

The values live in conf/. A field marked ``runtime()`` changes how a stage is executed (speed,
memory, logging) and not what it means, so it takes no part in a stage's fingerprint; one that came later is
``added(VALUE)``, with the value that means what was done before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from nemo_cot.config.checks import (
    added,
    at_least,
    between,
    one_of,
    runtime,
    seed,
    some_of,
)
from nemo_cot.config.cluster import ClusterConfig
from nemo_cot.config.data import (  # noqa: F401 (the whole schema is imported from here)
    ChainSumProblems,
    ChoiceColumns,
    ChoiceProblems,
    FileProblems,
    GymProblems,
    ProblemsConfig,
    TracesProblems,
)
from nemo_cot.config.engines import PRECISIONS, SamplingConfig  # noqa: F401
from nemo_cot.config.evaluate import AT_STEP, CHECKPOINTS, OWN_SUBJECTS, EvaluateConfig  # noqa: F401
from nemo_cot.config.marks import MarksConfig
from nemo_cot.config.model import ModelConfig
from nemo_cot.config.prompts import PromptConfig, is_prompt_name
from nemo_cot.config.refine import RefineConfig
from nemo_cot.config.teacher import FileTeacher, ModelTeacher, ProceduralTeacher, TeacherConfig  # noqa: F401
from nemo_cot.config.transform import TransformConfig, check_kinds
from nemo_cot.errors import UserError
from nemo_cot.traces.filters import load_filters
from nemo_cot.traces.orders import ORDERS, read_by

PACK_STRATEGIES = ("best_fit", "optimal", "shuffle", "in_order")
VERDICTS = ("right", "wrong", "undecided")


@dataclass
class GenerateConfig:
    """Solutions per problem, before grading and curation. Each of ``chunks`` is a stage of its own with a
    part of the samples (seeds) of every problem.
    """

    samples_per_problem: int
    seed: int
    chunks: int = runtime()  # where it counts, the stage adds it (nemo_cot.sampling.chunks)

    def __post_init__(self) -> None:
        at_least("generate.samples_per_problem", self.samples_per_problem, 1)
        seed("generate.seed", self.seed)
        between("generate.chunks", self.chunks, 1, self.samples_per_problem)


@dataclass
class GradeConfig:
    """How answers are found and compared; ``fallback`` says where to look without a box, ``thoughts``
    whether an answer inside <think> counts where none follows.
    """

    fallback: str
    thoughts: str
    deadline_seconds: float
    workers: int = runtime()

    def __post_init__(self) -> None:
        one_of("grade.fallback", self.fallback, ("none", "phrase", "last_number"))
        one_of("grade.thoughts", self.thoughts, ("last_resort", "ignore"))
        at_least("grade.deadline_seconds", self.deadline_seconds, 0.1)
        at_least("grade.workers", self.workers, 1)


@dataclass
class CurateConfig:
    """Which traces are kept (docs/curating.md). Lengths count the student's tokens, the end-of-turn token
    included.

    ``verdicts`` and ``finish_reasons`` list what may be kept; ``subset``: only traces with these values of a
    key of their problem or lineage. ``filters``: names of nemo_cot/traces/filters, each with its keys; they
    come after the other rules. ``pass_rate``: the band of the teacher's pass rates on the problems, lowest
    and highest. ``order`` and ``ties``: names of nemo_cot/traces/orders. ``per_problem``: at most;
    ``num_problems``: exactly so many problems with equally many traces each. ``verdict_mix``: a ratio of
    verdicts; ``balance``: a key whose values give equally many. ``measures``: names of
    nemo_cot/traces/structure, written beside each trace of the pool.
    """

    num_traces: int
    per_problem: int
    min_tokens: int
    max_tokens: int
    target_tokens: int
    order: str
    verdicts: list[str]
    seed: int
    filters: dict[str, Any] = added({})  # noqa: RUF009
    finish_reasons: list[str] = added(["stop"])  # noqa: RUF009
    subset: dict[str, Any] = added({})  # noqa: RUF009
    pass_rate: list[float] = added([0.0, 1.0])  # noqa: RUF009
    ties: list[str] = added([])  # noqa: RUF009
    num_problems: Optional[int] = added(None)  # noqa: UP045
    verdict_mix: dict[str, float] = added({})  # noqa: RUF009
    balance: Optional[str] = added(None)  # noqa: UP045
    measures: list[str] = added([])  # noqa: RUF009

    def __post_init__(self) -> None:
        at_least("curate.num_traces", self.num_traces, 1)
        at_least("curate.per_problem", self.per_problem, 1)
        at_least("curate.min_tokens", self.min_tokens, 1)
        at_least("curate.max_tokens", self.max_tokens, self.min_tokens, than="curate.min_tokens")
        for key, name in (("order", self.order), *(("ties", name) for name in self.ties)):
            one_of(f"curate.{key}", name, ORDERS)
        some_of("curate.verdicts", self.verdicts, VERDICTS)
        some_of("curate.finish_reasons", self.finish_reasons, ("stop", "length"))
        if len(self.pass_rate) != 2 or not 0 <= self.pass_rate[0] <= self.pass_rate[1] <= 1:
            raise UserError(
                f"{self.pass_rate} is no band of shares", where="curate.pass_rate", fix="for example [0.25, 0.75]"
            )
        self._check_quotas()
        load_filters(self.filters)
        if self.measures or "measures" in read_by(self):
            from nemo_cot.traces.structure import measure_names  # numpy

            some_of("curate.measures", self.measures, measure_names())

    def _check_quotas(self) -> None:
        if self.num_problems is not None:
            at_least("curate.num_problems", self.num_problems, 1)
            if self.num_traces % self.num_problems:
                raise UserError(
                    f"{self.num_traces} traces of {self.num_problems} problems is no whole number for each",
                    where="curate.num_problems", fix="choose a divisor of curate.num_traces",
                )  # fmt: skip
            if (most := self.num_problems * self.per_problem) < self.num_traces:
                raise UserError(
                    f"num_problems={self.num_problems} x per_problem={self.per_problem} = {most} < {self.num_traces}",
                    where="curate.num_problems",
                    fix=f"set curate.per_problem to {self.num_traces // self.num_problems}, or lower curate.num_traces",
                )
        if self.verdict_mix and set(self.verdict_mix) != set(self.verdicts):
            raise UserError(
                f"is a ratio of {', '.join(self.verdict_mix)}, and curate.verdicts lets {', '.join(self.verdicts)} pass",
                where="curate.verdict_mix", fix=f"curate.verdicts=[{','.join(self.verdict_mix)}]",
            )  # fmt: skip
        if not all(ratio > 0 for ratio in self.verdict_mix.values()):
            raise UserError("a part is not above 0", where="curate.verdict_mix", fix="for example {right: 3, wrong: 1}")
        if self.balance is not None and not self.balance.strip():
            raise UserError("names no key", where="curate.balance", fix="name one, such as annotator, or null")


@dataclass
class PackConfig:
    """``capacity_tokens``: the longest pack. ``strategy``: see nemo_cot.packing.pack."""

    capacity_tokens: int
    strategy: str
    seed: int

    def __post_init__(self) -> None:
        at_least("pack.capacity_tokens", self.capacity_tokens, 2)
        one_of("pack.strategy", self.strategy, PACK_STRATEGIES)
        seed("pack.seed", self.seed)


@dataclass
class SchedConfig:
    """Learning rate over steps: linear warm-up, then ``name`` down to ``min_lr`` at the last step."""

    name: str
    warmup_steps: int
    min_lr: float

    def __post_init__(self) -> None:
        one_of("train.optim.sched.name", self.name, ("constant", "linear", "cosine"))
        at_least("train.optim.sched.warmup_steps", self.warmup_steps, 0)
        at_least("train.optim.sched.min_lr", self.min_lr, 0.0)


@dataclass
class OptimConfig:
    """AdamW, with decoupled weight decay on matrices only (not on norms and biases)."""

    name: str
    lr: float
    betas: list[float]
    eps: float
    weight_decay: float
    sched: SchedConfig

    def __post_init__(self) -> None:
        one_of("train.optim.name", self.name, ("adamw",))
        at_least("train.optim.lr", self.lr, 0.0)
        at_least("train.optim.weight_decay", self.weight_decay, 0.0)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(
                f"{self.betas} is not two numbers in [0, 1)",
                where="train.optim.betas",
                fix="for example [0.9, 0.95]",
            )
        at_least("train.optim.lr", self.lr, self.sched.min_lr, than="train.optim.sched.min_lr")


@dataclass
class LoggersConfig:
    """Where the metrics of training go, beside the backend's own files.

    ``tensorboard``: files in the stage's folder. ``wandb``: Weights & Biases, project ``project``; the key is in
    WANDB_API_KEY, and WANDB_MODE=offline keeps files to send later. ``mlflow``: the experiment ``project`` at
    ``mlflow_uri``; null: files in the stage's folder.
    """

    tensorboard: bool
    wandb: bool
    mlflow: bool
    project: str
    mlflow_uri: Optional[str]  # noqa: UP045

    def environment(self) -> dict[str, str]:
        """Variables that the loggers need: MLflow asks for this one before it writes files, as it does without an
        address. A database in their place would lie on a network file system.
        """
        return {"MLFLOW_ALLOW_FILE_STORE": "true"} if self.mlflow and not self.mlflow_uri else {}


@dataclass
class TrainConfig:
    """Packed SFT, as every backend understands it; ``backend`` names the package in nemo_cot.training
    whose config.py has the subclass with the backend's own keys.

    ``global_batch_size`` counts sequences per step; see docs/training.md.
    """

    backend: str
    max_steps: int
    global_batch_size: int
    batching: str
    objective: str
    precision: str
    seed: int
    gradient_clip_val: float
    optim: OptimConfig
    save_interval_steps: int = runtime()
    loggers: LoggersConfig = runtime()  # noqa: RUF009

    def __post_init__(self) -> None:
        own = type(self).__module__.split(".")[-2]  # nemo_cot.training.NAME.config
        if self.backend != own:
            raise UserError(
                f"{self.backend!r} with the keys of {own}", where="train.backend", fix="choose the file: train=NAME"
            )
        one_of("train.batching", self.batching, ("literal", "distinct"))
        one_of("train.precision", self.precision, PRECISIONS)
        at_least("train.max_steps", self.max_steps, 1)
        seed("train.seed", self.seed)
        at_least("train.global_batch_size", self.global_batch_size, 1)
        at_least("train.gradient_clip_val", self.gradient_clip_val, 0.0)
        at_least("train.save_interval_steps", self.save_interval_steps, 1)
        at_least(
            "train.max_steps",
            self.max_steps,
            self.optim.sched.warmup_steps,
            than="train.optim.sched.warmup_steps",
        )


@dataclass
class ReportConfig:
    """What the report shows beside the figures. ``title`` null: what the config says was done. ``num_traces_shown``: in
    report.md; ``max_megabytes``: of texts in report.html, which says what was left out.
    """

    title: Optional[str]  # noqa: UP045
    num_traces_shown: int
    max_megabytes: float = added(50.0)

    def __post_init__(self) -> None:
        at_least("report.num_traces_shown", self.num_traces_shown, 0)
        between("report.max_megabytes", self.max_megabytes, 0, 1000)


@dataclass
class LauncherConfig:
    """Where the chain runs; ``name``: local. ``stages`` is the chain, in order."""

    name: str
    stages: list[str]

    def __post_init__(self) -> None:
        one_of("launcher.name", self.name, ("local",))


@dataclass
class Config:
    """One experiment: what runs/NAME/config.yaml holds.

    ``prompts``: the files of conf/prompt that teacher.prompt and refine.passes name. ``reuse``: names (in
    ``runs_dir``) or directories of other runs, whose finished stages are reused.
    """

    name: str
    runs_dir: str
    reuse: list[str]
    problems: ProblemsConfig
    teacher: TeacherConfig
    generate: GenerateConfig
    prompts: dict[str, PromptConfig]
    grade: GradeConfig
    marks: MarksConfig
    curate: CurateConfig
    transform: TransformConfig
    model: ModelConfig
    refine: RefineConfig
    pack: PackConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    report: ReportConfig
    launcher: LauncherConfig
    cluster: ClusterConfig

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.problems.of_traces and self.teacher.traces is None:
            raise UserError(
                f"the problems are those of a trace file, and teacher.kind={self.teacher.kind} has none",
                where=f"problems.source={self.problems.source}",
                fix="choose teacher=file or another file of conf/teacher that reads one, or problems=file",
            )
        check_kinds(self.transform, self.marks.kinds)
        for one in self.refine.each():
            one.check(self.prompts[one.prompt])
        if prompt := self.teacher_prompt:
            self.teacher.by_model.check(prompt)

    @property
    def teacher_prompt(self) -> PromptConfig | None:
        """The file of conf/prompt that teacher.prompt names; None where it is a prompt itself."""
        teacher = self.teacher.by_model
        return self.prompts[teacher.prompt] if teacher and is_prompt_name(teacher.prompt) else None


def check_name(name: str) -> None:
    """Raise UserError unless ``name`` can be that of a run's directory."""
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not plain.isalnum() or not plain.isascii() or name.startswith((".", "-")):
        raise UserError(
            f"{name!r} is not a plain directory name",
            where="name",
            fix="use letters (A to Z, a to z), digits, '-', '_' and '.'",
        )
