"""generate: several solutions to each training problem, by a procedure, a model or out of a file."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from nemo_cot.config import Config, FileTeacher, ModelTeacher, ProceduralTeacher
from nemo_cot.config.checks import fingerprinted
from nemo_cot.config.engines import EndpointEngine
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.models.convert import hf_directory
from nemo_cot.models.format import base_model, format_config, student_tokenizer
from nemo_cot.records import Problem
from nemo_cot.sampling.chunks import GENERATIONS, Sampling, draws_batches
from nemo_cot.sampling.engines import sample
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.stages import Output, Source, Stage
from nemo_cot.text import PromptFormat
from nemo_cot.traces.sources import file_traces, procedural_traces


def generate(cfg: Config) -> Iterator[Stage]:
    """Write generations.jsonl: generate.samples_per_problem traces of each training problem, in
    generate.chunks parts if there are several.
    """
    teacher = cfg.teacher
    student = base_model(cfg.model)
    inputs: dict[str, Source] = {
        "problems": Output("problems", "train.jsonl"),
        "tokenizer": student / "tokenizer.json",
    }
    config = {
        "teacher": fingerprinted(teacher),
        "generate": fingerprinted(cfg.generate),
        "model": format_config(cfg.model),
    }
    if isinstance(teacher, ModelTeacher) and (model := _teacher_model(teacher, student)) is not None:
        inputs["teacher"] = model
    elif isinstance(teacher, FileTeacher):
        inputs["traces"] = user_path(teacher.path)
    yield from Sampling(
        "generate",
        inputs,
        config,
        lambda folder, found, samples: _work(cfg, found, folder, samples),
        samples=cfg.generate.samples_per_problem,
        chunks=cfg.generate.chunks,
        resumable=isinstance(teacher, ModelTeacher),
        batches=isinstance(teacher, ModelTeacher) and draws_batches(teacher.engine),
        resources="generate",
    ).stages()


def _work(cfg: Config, inputs: Mapping[str, Path], folder: Path, samples: range) -> None:
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
    tokenizer = student_tokenizer(cfg.model, inputs["tokenizer"].parent)
    if isinstance(teacher, ProceduralTeacher):
        traces = procedural_traces(problems, teacher, tokenizer, samples=samples, seed=cfg.generate.seed)
    else:
        traces = file_traces(inputs["traces"], problems, tokenizer)
    write_jsonl(folder / GENERATIONS, traces)


def _teacher_model(teacher: ModelTeacher, student: Output) -> Source | None:
    """Its Hugging Face directory; None for a name that only an endpoint knows."""
    if isinstance(teacher.engine, EndpointEngine) and teacher.engine.server.base_url and not teacher.path:
        return None
    return partial(hf_directory, teacher.path, key="teacher.path") if teacher.path else student


if __name__ == "__main__":
    recipe_main(generate)
