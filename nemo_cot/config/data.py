"""The schema of problems: where they come from, and how their answers are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Optional

from nemo_cot.config.checks import added, at_least, fingerprinted, one_of, runtime, seed
from nemo_cot.errors import UserError
from nemo_cot.io.paths import user_path
from nemo_cot.io.tables import table_packages

PER_ROW = "per_row"
"""problems.scorer, where each row has its own."""


def scorer_names() -> list[str]:
    """The names that problems.scorer may have. (A function: grading is not loaded for every config.)"""
    from nemo_cot.grading import scorers

    return scorers.scorer_names()


@dataclass
class ProblemsConfig:
    """Where problems come from; ``source`` names the module in nemo_cot.problems, and the subclass.

    ``packages`` are the modules that making them imports, and what pip installs them with; ``more`` says
    how to have more training problems. ``counts``: training and held-out problems, where the config says how
    many; ``files``: those that they are read from, called train and heldout. ``scorers``: how their answers are
    scored (nemo_cot.grading.scorers).
    """

    counts: ClassVar[tuple[int | None, int | None]] = (None, None)
    files: ClassVar[dict[str, str]] = {}
    packages: ClassVar[dict[str, str]] = {}
    more: ClassVar[str] = "raise their number"
    holds: ClassVar[str] = "JSON lines with the keys problem and expected_answer"
    """What its files are."""
    of_traces: ClassVar[bool] = False
    """Whether the training problems are those of the teacher's file."""
    scorers: ClassVar[tuple[str, ...]] = ("math",)
    scorer_packages: ClassVar[dict[str, str]] = {}
    """As ``packages``, of stages that grade."""
    no_sums: ClassVar[bool] = False
    """Whether they are known to be something else than sums, which alone the procedural teacher can write traces to."""

    source: str

    @property
    def heldout(self) -> dict[str, Any]:
        """What decides the held-out problems, by key: their file, and all else but what is of the training problems alone."""
        path = self.files.get("heldout")
        return {**fingerprinted(self), **({"heldout_path": path} if path else {})}


@dataclass
class DrawnProblems(ProblemsConfig):
    """Drawn from reasoning-gym (procedural, offline)."""

    packages: ClassVar[dict[str, str]] = {"reasoning_gym": "-e '.[local]' in the clone"}
    more = "raise problems.num_train"

    num_train: int
    num_heldout: int
    seed: int

    @property
    def counts(self) -> tuple[int, int]:  # type: ignore[override]
        """As configured."""
        return self.num_train, self.num_heldout


@dataclass
class ChainSumProblems(DrawnProblems):
    """Sums of a few small numbers."""

    terms: int
    digits: int

    def __post_init__(self) -> None:
        at_least("problems.terms", self.terms, 2)
        at_least("problems.digits", self.digits, 1)
        at_least("problems.num_train", self.num_train, 1)
        at_least("problems.num_heldout", self.num_heldout, 1)
        seed("problems.seed", self.seed)


@dataclass
class TwoFiles(ProblemsConfig):
    """Problems out of two files; ``train_path`` null: none are trained on.

    Paths here and below are ``runtime()`` where what lies there is an input of the stage, hashed.
    """

    more = "raise the rows of problems.train_path"

    train_path: Optional[str] = runtime()  # noqa: UP045
    heldout_path: str = runtime()

    @property
    def files(self) -> dict[str, str]:  # type: ignore[override]
        """Those that are named."""
        return {**({"train": self.train_path} if self.train_path else {}), "heldout": self.heldout_path}

    @property
    def counts(self) -> tuple[int | None, None]:  # type: ignore[override]
        """None are trained on without a file."""
        return (None if self.train_path else 0), None


@dataclass
class FileProblems(TwoFiles):
    """JSON lines with the keys problem and expected_answer. ``scorer``: of all rows, "per_row" as each row's
    own ``scorer`` says; null: mathematics.
    """

    scorer: Optional[str] = added(None)  # noqa: UP045

    def __post_init__(self) -> None:
        if self.scorer is not None:
            one_of("problems.scorer", self.scorer, (PER_ROW, *scorer_names()))

    @property
    def scorers(self) -> tuple[str, ...]:  # type: ignore[override]
        """As configured; all of them where the rows say it."""
        return tuple(scorer_names()) if self.scorer == PER_ROW else (self.scorer or "math",)


@dataclass
class TracesProblems(ProblemsConfig):
    """The training problems are those of the trace file of teacher=file, distinct by their text; held-out
    ones come out of a file of their own, as with :class:`FileProblems`.

    ``num_train``: a random choice of so many, by ``seed``; null: all.
    """

    more = "raise problems.num_train"
    of_traces = True

    heldout_path: str = runtime()
    num_train: Optional[int]  # noqa: UP045
    seed: int

    def __post_init__(self) -> None:
        if self.num_train is not None:
            at_least("problems.num_train", self.num_train, 1)
        seed("problems.seed", self.seed)

    @property
    def counts(self) -> tuple[int | None, None]:  # type: ignore[override]
        """As configured."""
        return self.num_train, None

    @property
    def files(self) -> dict[str, str]:  # type: ignore[override]
        """The held-out problems; the teacher has the other file."""
        return {"heldout": self.heldout_path}

    @property
    def heldout(self) -> dict[str, Any]:
        """As of :class:`FileProblems`."""
        return {"source": "file", "heldout_path": self.heldout_path}


@dataclass
class GymProblems(DrawnProblems):
    """Problems scored by the verifier of their task.

    ``task``: its name, with ``options`` for its config; or ``tasks``: several by name, each with its share of the
    problems, or {share: 1, options: {}}.
    """

    scorer_packages: ClassVar[dict[str, str]] = DrawnProblems.packages
    scorers = ("reasoning_gym",)

    task: Optional[str]  # noqa: UP045
    options: dict[str, Any]
    tasks: dict[str, Any]

    def __post_init__(self) -> None:
        if (self.task is None) == (not self.tasks):
            fix = "set problems.task=NAME, or problems.tasks={NAME: SHARE, ...}"
            raise UserError("one task, or several, must be named", where="problems.task", fix=fix)
        if self.tasks and self.options:
            fix = "give each task its own: problems.tasks.NAME={share: 1, options: {...}}"
            raise UserError("are those of problems.task, and there are several", where="problems.options", fix=fix)
        at_least("problems.num_train", self.num_train, 0)
        at_least("problems.num_heldout", self.num_heldout, 1)
        seed("problems.seed", self.seed)
        for name, (share, _) in self.shares.items():
            if not share > 0:
                raise UserError(f"{share} is no share of the problems", where=f"problems.tasks.{name}", fix="give it one above 0")

    @property
    def shares(self) -> dict[str, tuple[float, dict[str, Any]]]:
        """Share and options of each task, by name. Raises UserError for what is neither."""
        if self.task is not None:
            return {self.task: (1.0, self.options)}
        found = {}
        for name, given in self.tasks.items():
            own = given if isinstance(given, dict) else {"share": given}
            share, options = own.get("share", 1), own.get("options") or {}
            number = isinstance(share, (int, float)) and not isinstance(share, bool)
            if not number or not isinstance(options, dict) or own.keys() - {"share", "options"}:
                fix = "give a number, or {share: 1, options: {...}}"
                raise UserError(f"{given!r} is no share of the problems", where=f"problems.tasks.{name}", fix=fix)
            found[name] = (float(share), options)
        return dict(sorted(found.items()))

    @property
    def no_sums(self) -> bool:  # type: ignore[override]
        """Of every task but one."""
        return self.shares.keys() != {"chain_sum"}


@dataclass
class ChoiceColumns:
    """Which column holds what. The options: ``correct`` and ``incorrect``, a column each; or ``choices``, one column with
    a list or dict of them, or one per option, and ``answer``, with the letter, the number from 0, or the text of the
    right one. ``problem_id`` null: problem_id, or else id.
    """

    question: str
    correct: Optional[str]  # noqa: UP045
    incorrect: list[str]
    choices: Any
    answer: Optional[str]  # noqa: UP045
    problem_id: Optional[str]  # noqa: UP045
    subset_for_metrics: Optional[str]  # noqa: UP045

    def __post_init__(self) -> None:
        if (self.correct is None) == (self.answer is None):
            fix = "set problems.columns.correct and .incorrect, or .choices and .answer; the others to null and []"
            raise UserError("what is right must stand in one way", where="problems.columns", fix=fix)
        key, options = ("choices", self.choices) if self.correct is None else ("incorrect", self.incorrect)
        if not options:
            raise UserError("no column holds the options", where=f"problems.columns.{key}", fix="name it")

    @property
    def option_columns(self) -> list[str]:
        """Those of the options, the right one first where it has its own."""
        if self.correct is not None:
            return [self.correct, *self.incorrect]
        return list(self.choices) if isinstance(self.choices, list) else [self.choices]


@dataclass
class ChoiceProblems(TwoFiles):
    """Multiple choice out of tables (nemo_cot.io.tables).

    ``shuffle``: the options come in an order that hangs on ``seed`` and the problem's id alone; else as in the file, the
    right one first where it has a column of its own. ``template`` holds {question} and {options}, ``option`` {letter}
    and {text}.
    """

    holds = "a table with a question, its options and the right one per row"
    scorers = ("choice",)
    no_sums = True

    format: str
    columns: ChoiceColumns
    shuffle: bool
    seed: int
    template: str
    option: str

    def __post_init__(self) -> None:
        one_of("problems.format", self.format, ("auto", "jsonl", "json", "csv", "parquet"))
        seed("problems.seed", self.seed)
        for key, names in (("template", ("{question}", "{options}")), ("option", ("{letter}", "{text}"))):
            for name in names:
                if getattr(self, key).count(name) != 1:
                    raise UserError(f"must hold {name} exactly once", where=f"problems.{key}", fix=f"correct problems.{key}")

    @property
    def packages(self) -> dict[str, str]:  # type: ignore[override]
        """Those of the files' formats."""
        kinds = (table_packages(user_path(path), self.format, None) for path in self.files.values())
        return {name: install for found in kinds for name, install in found.items()}
