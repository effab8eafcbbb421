"""Per teacher.kind: how the teacher writes its traces, and its inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nemo_cot.config import Config, FileTeacher, ModelTeacher, ProceduralTeacher
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.io.tables import num_rows
from nemo_cot.models.convert import hf_directory
from nemo_cot.models.format import base_model, student_tokenizer
from nemo_cot.progress import track
from nemo_cot.records import Problem, Trace
from nemo_cot.sampling.chunks import GENERATIONS
from nemo_cot.sampling.engines import sample
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.stages import Source
from nemo_cot.text import PromptFormat
from nemo_cot.traces.sources import file_traces, procedural_traces


def teacher_inputs(cfg: Config) -> dict[str, Source]:
    """The teacher's inputs beside the problems and the student's tokenizer."""
    return _KINDS[cfg.teacher.kind].inputs(cfg, cfg.teacher)


def write_traces(cfg: Config, folder: Path, inputs: Mapping[str, Path], samples: range) -> None:
    """Write ``folder``/generations.jsonl with the traces numbered ``samples`` of every problem.

    ``inputs``: problems (train.jsonl), tokenizer (the student's tokenizer.json), and those of
    :func:`teacher_inputs`. Raises UserError as the teacher's own functions do.
    """
    problems = read_jsonl(inputs["problems"], Problem)
    _KINDS[cfg.teacher.kind].write(cfg, cfg.teacher, folder, inputs, problems, samples)


def _procedural(
    cfg: Config, teacher: ProceduralTeacher, folder: Path, inputs: Mapping[str, Path], problems: list[Problem], samples: range
) -> None:
    tokenizer = student_tokenizer(cfg.model, inputs["tokenizer"].parent)
    traces = procedural_traces(problems, teacher, tokenizer, samples=samples, seed=cfg.generate.seed)
    write_jsonl(folder / GENERATIONS, traces)


def _file(
    cfg: Config, teacher: FileTeacher, folder: Path, inputs: Mapping[str, Path], problems: list[Problem], _: range
) -> None:
    tokenizer, path, counts = student_tokenizer(cfg.model, inputs["tokenizer"].parent), inputs["traces"], Counter()
    with track("read traces", num_rows(path, teacher.format) or 0, "rows", folder) as progress:

        def followed() -> Iterator[Trace]:
            for trace in file_traces(path, problems, tokenizer, teacher, counts):
                progress.update(counts["rows"], total=max(progress.total, counts["rows"]))
                yield trace

        kept = write_jsonl(folder / GENERATIONS, followed())
    left_out = "".join(f"; left out by {name}: {count}" for name, count in counts.items() if name != "rows")
    print(f"  {counts['rows']} rows: {kept} traces of the training problems{left_out}")


def _model(
    cfg: Config, teacher: ModelTeacher, folder: Path, inputs: Mapping[str, Path], problems: list[Problem], samples: range
) -> None:
    form, turns = asked(cfg, teacher)
    job = SamplingJob(
        inputs.get("teacher"),
        form,
        problems,
        samples,
        seed=cfg.generate.seed,
        sampling=teacher.sampling,
        lineage="model",
        folder=folder,
        label="generate",
        turns=turns,
    )
    sample(teacher.engine, job)


def asked(cfg: Config, teacher: ModelTeacher) -> tuple[PromptFormat, tuple[dict[str, str], ...]]:
    """The format around a problem, and what is said in the chat before it. A file of conf/prompt is sent as a chat to a
    chat endpoint, and else in one message, in teacher.template.
    """
    prompt, client = cfg.teacher_prompt, teacher.engine.client
    if prompt is None:
        return PromptFormat(teacher.prompt, teacher.end_of_turn), ()
    if client and client.endpoint == "chat":
        return PromptFormat(prompt.user, teacher.end_of_turn), tuple(prompt.turns)
    template, message = teacher.template or cfg.model.prompt, prompt.in_one_message(prompt.user)
    return PromptFormat(template.replace("{problem}", message), teacher.end_of_turn), ()


def _model_inputs(cfg: Config, teacher: ModelTeacher) -> dict[str, Source]:
    """Its Hugging Face directory; none for a model that only an endpoint has."""
    client = teacher.engine.client
    if client and client.server.base_url and not teacher.path:
        return {}
    named = partial(hf_directory, teacher.path, key="teacher.path") if teacher.path else base_model(cfg.model)
    return {"teacher": named}


class _Kind(NamedTuple):
    write: Callable[..., None]
    inputs: Callable[[Config, Any], dict[str, Source]] = lambda cfg, teacher: {}


_KINDS = {
    "procedural": _Kind(_procedural),
    "model": _Kind(_model, _model_inputs),
    "file": _Kind(_file, lambda cfg, teacher: {"traces": user_path(teacher.path)}),
}
