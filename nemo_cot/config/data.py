"""The schema of what traces are made of: problems, and the teacher that writes solutions to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Optional

from nemo_cot.config.checks import added, at_least, between, holds_problem, runtime, seed
from nemo_cot.config.engines import EngineConfig, SamplingConfig
from nemo_cot.config.prompts import PromptConfig, is_prompt_name
from nemo_cot.errors import UserError


@dataclass
class ProblemsConfig:
    """Where problems come from; ``source`` names the module in nemo_cot.problems, and the subclass.

    ``packages`` are the modules that making them imports, and what pip installs them with; ``more`` says
    how to have more training problems. ``counts``: training and held-out problems, where the config says how
    many; ``files``: those that they are read from, called train and heldout.
    """

    counts: ClassVar[tuple[int | None, int | None]] = (None, None)
    files: ClassVar[dict[str, str]] = {}
    packages: ClassVar[dict[str, str]] = {}
    more: ClassVar[str] = "raise their number"

    source: str


@dataclass
class ChainSumProblems(ProblemsConfig):
    """Sums of a few small numbers from reasoning-gym (procedural, offline)."""

    packages: ClassVar[dict[str, str]] = {"reasoning_gym": "-e '.[local]' in the clone"}
    more = "raise problems.num_train"

    terms: int
    digits: int
    num_train: int
    num_heldout: int
    seed: int

    def __post_init__(self) -> None:
        at_least("problems.terms", self.terms, 2)
        at_least("problems.digits", self.digits, 1)
        at_least("problems.num_train", self.num_train, 1)
        at_least("problems.num_heldout", self.num_heldout, 1)
        seed("problems.seed", self.seed)

    @property
    def counts(self) -> tuple[int, int]:  # type: ignore[override]
        """As configured."""
        return self.num_train, self.num_heldout


@dataclass
class FileProblems(ProblemsConfig):
    """Problems out of two JSON-lines files with the keys problem and expected_answer.

    Paths here and below are ``runtime()`` where what lies there is an input of the stage, hashed.
    """

    more = "raise problems.train_path's rows"

    train_path: str = runtime()
    heldout_path: str = runtime()

    @property
    def files(self) -> dict[str, str]:  # type: ignore[override]
        """Both."""
        return {"train": self.train_path, "heldout": self.heldout_path}


@dataclass
class TeacherConfig:
    """Who writes the traces; ``kind`` names the subclass: procedural, model or file."""

    resumable: ClassVar[bool] = False
    """Whether writing that was cut short goes on where it was."""
    draws_batches: ClassVar[bool] = False
    """Whether a trace depends on those that are drawn beside it, as with the embedded engine."""
    in_one_piece: ClassVar[bool] = False
    """Whether all samples come at once, so that there are no chunks."""

    by_model: ClassVar[ModelTeacher | None] = None
    """Itself, where a model writes the traces."""
    named_path: ClassVar[str | None] = None
    """The file or folder that teacher.path names."""
    described: ClassVar[str] = "written by a procedure"
    """Who wrote the traces, behind "20 traces"."""

    kind: str


@dataclass
class ProceduralTeacher(TeacherConfig):
    """Counting-style traces with a check of their own steps; some wrong, too short or too long.

    The three rates are probabilities of a trace and exclude each other; the rest is good.
    """

    wrong_rate: float
    short_rate: float
    long_rate: float

    def __post_init__(self) -> None:
        for key in ("wrong_rate", "short_rate", "long_rate"):
            between(f"teacher.{key}", getattr(self, key), 0.0, 1.0)
        between("the sum of teacher.*_rate", self.wrong_rate + self.short_rate + self.long_rate, 0.0, 1.0)


@dataclass
class ModelTeacher(TeacherConfig):
    """Traces sampled from a Hugging Face directory; ``path`` null: the student's base model.

    ``prompt`` holds {problem}, or is the name of a file of conf/prompt. Engines that render prompts put ``template``,
    which holds {problem} too, around such a file's message; null: model.prompt.
    """

    resumable = True

    prompt: str
    end_of_turn: str
    sampling: SamplingConfig
    engine: EngineConfig
    path: Optional[str] = runtime()  # noqa: UP045 (OmegaConf reads Optional on Python 3.10)
    template: Optional[str] = added(None)  # noqa: UP045

    def __post_init__(self) -> None:
        if not is_prompt_name(self.prompt):
            holds_problem("teacher.prompt", self.prompt)
        if self.template is not None:
            holds_problem("teacher.template", self.template)

    def check(self, prompt: PromptConfig) -> None:
        """Raise UserError for a prompt file that cannot be asked of a teacher, or an engine that asks something else."""
        client, key = self.engine.client, "teacher.prompt"
        holds_problem(f"prompts.{self.prompt}", prompt.in_one_message(prompt.user))
        if prompt.fields != {"problem"} or prompt.result != "replace" or prompt.between:
            raise UserError(f"{self.prompt} is for traces that are there", where=key,
                            fix="choose one with {problem} alone, result: replace and between: []")  # fmt: skip
        if getattr(client, "prompt_config", None) is not None:
            raise UserError("the engine has a prompt of NeMo-Skills' own", where=key, fix="set teacher.engine.prompt_config=null")
        if client and client.system_message is not None and prompt.system:
            raise UserError("the prompt has a system message too", where="teacher.engine.system_message", fix="set one of them to null")

    @property
    def by_model(self) -> ModelTeacher:  # type: ignore[override]
        """Itself."""
        return self

    @property
    def draws_batches(self) -> bool:  # type: ignore[override]
        """As its engine does."""
        return self.engine.draws_batches

    @property
    def named_path(self) -> str | None:  # type: ignore[override]
        """Its Hugging Face directory."""
        return self.path

    @property
    def described(self) -> str:  # type: ignore[override]
        """By its name."""
        served = self.engine.client and self.engine.client.server
        name = self.path or (served and served.base_url and served.model_name)
        return f"by {Path(name).name}" if name else "by the model itself"


@dataclass
class FileTeacher(TeacherConfig):
    """Traces out of a JSON-lines file (keys problem_id or id, generation), for example from NeMo-Skills."""

    in_one_piece = True

    path: str = runtime()

    @property
    def named_path(self) -> str | None:  # type: ignore[override]
        """The file."""
        return self.path

    @property
    def described(self) -> str:  # type: ignore[override]
        """By the file's name."""
        return f"of the file {Path(self.path).name}"
