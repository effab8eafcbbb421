"""The schema of teachers: who writes the traces, or which file has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Optional

from nemo_cot.config.checks import added, between, holds_problem, one_of, runtime
from nemo_cot.config.engines import EngineConfig, SamplingConfig
from nemo_cot.config.prompts import PromptConfig, is_prompt_name
from nemo_cot.errors import UserError


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
    traces: ClassVar[FileTeacher | None] = None
    """Itself, where the traces are read from a file."""
    described: ClassVar[str] = "written by a procedure"
    """Who wrote the traces, behind "20 traces"."""

    kind: str

    @property
    def named_path(self) -> str | None:
        """The file or folder that teacher.path names."""
        return getattr(self, "path", None)


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
    def described(self) -> str:  # type: ignore[override]
        """By its name."""
        served = self.engine.client and self.engine.client.server
        name = self.path or (served and served.base_url and served.model_name)
        return f"by {Path(name).name}" if name else "by the model itself"


@dataclass
class TraceColumns:
    """Which column of a trace file holds what; null: none does. A column that is not there counts as null.

    ``generation``: the solution, or a list of several. ``messages``: a chat ([{role, content}] or [{from,
    value}]) whose last answer is the solution, in place of ``generation``, and whose last question before
    it is the problem where the row has no ``problem``. ``thought``: the thinking, where it stands apart
    from the solution. ``problem_id`` null: problem_id, or else id. ``expected_answer`` counts for
    problems=from_traces; of one with boxes the last box. ``kept``: columns for the lineage, such as the
    annotator.
    """

    problem_id: Optional[str] = added(None)  # noqa: UP045
    problem: Optional[str] = added("problem")  # noqa: UP045
    expected_answer: Optional[str] = added("expected_answer")  # noqa: UP045
    subset_for_metrics: Optional[str] = added("subset_for_metrics")  # noqa: UP045
    generation: Optional[str] = added("generation")  # noqa: UP045
    messages: Optional[str] = added(None)  # noqa: UP045
    thought: Optional[str] = added(None)  # noqa: UP045
    finish_reason: Optional[str] = added("finish_reason")  # noqa: UP045
    kept: list[str] = added([])  # noqa: RUF009

    def __post_init__(self) -> None:
        if self.generation is None and self.messages is None:
            fix = "set teacher.columns.generation or teacher.columns.messages"
            raise UserError("no column holds the solution", where="teacher.columns", fix=fix)

    @property
    def named(self) -> set[str]:
        """All columns that are read."""
        single = (self.problem_id, self.problem, self.expected_answer, self.subset_for_metrics, self.generation,
                  self.messages, self.thought, self.finish_reason)  # fmt: skip
        ids = () if self.problem_id else ("problem_id", "id")
        return {column for column in (*single, *ids, *self.kept) if column is not None}


@dataclass
class ThinkingConfig:
    """How the thinking is separated from the solution, and what becomes of it.

    ``open`` and ``close`` stand around it, in the text or, with a column of its own, from now on;
    ``others`` are further markers, such as those around the solution. ``mode``: keep (all as it is), cut
    (the solution alone) or join (both, without any marker).
    """

    open: str = added("<think>")
    close: str = added("</think>")
    others: list[str] = added([])  # noqa: RUF009
    mode: str = added("keep")

    def __post_init__(self) -> None:
        one_of("teacher.thinking.mode", self.mode, ("keep", "cut", "join"))
        for key, marker in (("open", self.open), ("close", self.close), *(("others", m) for m in self.others)):
            if not marker.strip():
                fix = "give the text that stands there, such as <think>"
                raise UserError("a marker is empty", where=f"teacher.thinking.{key}", fix=fix)


@dataclass
class FileTeacher(TeacherConfig):
    """Traces out of a table (nemo_cot.io.tables): a file, or a folder of files or of a saved dataset.

    ``format``: auto, by the name; ``split``: which part of a folder. ``match``: rows find their problem by
    its id, else by its text, or by the text alone. ``where``: rows are taken if each named column has the
    value, or one of the list (null: any); of a column with a list per generation, those generations.
    ``prefixes``: instructions that the set puts before its problems, taken off.
    """

    in_one_piece = True

    path: str = runtime()
    format: str = added("auto")
    split: Optional[str] = added(None)  # noqa: UP045
    match: str = added("id")
    columns: TraceColumns = added({})  # noqa: RUF009
    where: dict[str, Any] = added({})  # noqa: RUF009
    prefixes: list[str] = added([])  # noqa: RUF009
    thinking: ThinkingConfig = added({})  # noqa: RUF009

    def __post_init__(self) -> None:
        one_of("teacher.format", self.format, ("auto", "jsonl", "json", "csv", "parquet", "saved"))
        one_of("teacher.match", self.match, ("id", "text"))
        for column, wanted in self.where.items():
            values = wanted if isinstance(wanted, list) else [wanted]
            if wanted is not None and not all(isinstance(value, (str, int, float)) for value in values):
                fix = "give a value, a list of values, or null for any"
                raise UserError(f"{wanted!r} is neither", where=f"teacher.where.{column}", fix=fix)

    @property
    def traces(self) -> FileTeacher:  # type: ignore[override]
        """Itself."""
        return self

    @property
    def described(self) -> str:  # type: ignore[override]
        """By the file's name, and by what is taken of it."""
        wanted = {c: v if isinstance(v, list) else [v] for c, v in self.where.items() if v is not None}
        taken = ", ".join(f"{column} {' or '.join(map(str, values))}" for column, values in wanted.items())
        return f"of the file {Path(self.path).name}" + (f" ({taken})" if taken else "")
