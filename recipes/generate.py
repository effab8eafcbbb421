"""generate: several solutions to each training problem, by a procedure, a model or out of a file."""

from collections.abc import Iterator
from pathlib import Path

from nemo_cot.config import Config, FileTeacher, ModelTeacher, ProceduralTeacher
from nemo_cot.config.checks import fingerprinted
from nemo_cot.config.engines import EndpointEngine
from nemo_cot.errors import UserError
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.models.convert import check_hf_directory
from nemo_cot.models.format import base_model, format_config, student_tokenizer
from nemo_cot.records import Problem
from nemo_cot.sampling.chunks import GENERATIONS, Sampling, draws_batches
from nemo_cot.sampling.engines import sample
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.traces.sources import file_traces, procedural_traces
from nemo_cot.text import PromptFormat
from nemo_cot.experiment.recipe import recipe_main


def generate(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Write generations.jsonl: generate.samples_per_problem traces of each training problem, in
    generate.chunks parts if there are several.
    """
    teacher = cfg.teacher
    student = base_model(cfg.model, run)
    inputs = {"problems": run.artifact("problems", "train.jsonl"), "tokenizer": student / "tokenizer.json"}
    config = {
        "teacher": fingerprinted(teacher),
        "generate": fingerprinted(cfg.generate),
        "model": format_config(cfg.model),
    }
    if isinstance(teacher, ModelTeacher) and (model := _teacher_model(teacher, student)) is not None:
        inputs["teacher"] = model
    elif isinstance(teacher, FileTeacher):
        inputs["traces"] = user_path(teacher.path)
    if isinstance(teacher, FileTeacher) and cfg.generate.chunks > 1:
        raise UserError("a file is read as a whole", where="generate.chunks", fix="set generate.chunks=1")
    yield from Sampling(
        "generate",
        inputs,
        config,
        lambda folder, samples: _work(cfg, inputs, student, folder, samples),
        samples=cfg.generate.samples_per_problem,
        chunks=cfg.generate.chunks,
        chunk=cfg.generate.chunk,
        resumable=isinstance(teacher, ModelTeacher),
        batches=isinstance(teacher, ModelTeacher) and draws_batches(teacher.engine),
    ).stages(run)


def _work(cfg: Config, inputs: dict[str, Path], student: Path, folder: Path, samples: range) -> None:
    problems = read_jsonl(inputs["problems"], Problem)
    teacher = cfg.teacher
    if isinstance(teacher, ModelTeacher):
        job = SamplingJob(
            inputs.get("teacher"),
            PromptFormat(teacher.prompt, teacher.end_of_turn),
            problems,
            samples,
            seed=cfg.generate.seed,
            sampling=teacher.sampling,
            lineage="model",
            folder=folder,
            label="generate",
        )
        sample(teacher.engine, job)
        return
    tokenizer = student_tokenizer(cfg.model, student)
    if isinstance(teacher, ProceduralTeacher):
        traces = procedural_traces(problems, teacher, tokenizer, samples=samples, seed=cfg.generate.seed)
    else:
        traces = file_traces(inputs["traces"], problems, tokenizer)
    write_jsonl(folder / GENERATIONS, traces)


def _teacher_model(teacher: ModelTeacher, student: Path) -> Path | None:
    """Its Hugging Face directory; None for a name that only an endpoint knows."""
    if isinstance(teacher.engine, EndpointEngine) and teacher.engine.server.base_url and not teacher.path:
        return None
    if not teacher.path:
        return student
    directory = user_path(teacher.path).resolve()
    check_hf_directory(directory, key="teacher.path")
    return directory


if __name__ == "__main__":
    recipe_main(generate)
