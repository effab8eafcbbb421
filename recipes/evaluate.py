"""evaluate: sample the held-out problems from the base and the trained model, grade, and score."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.evaluation.subjects import subject_of
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.grading import GRADER_VERSION
from nemo_cot.grading.moves import compare_gradings
from nemo_cot.grading.stage import grade_generations
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.records import Problem, Trace
from nemo_cot.sampling.chunks import GENERATIONS, Sampling
from nemo_cot.sampling.engines import sample
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.stages import Output, Stage
from nemo_cot.traces.keys import marks_config


def evaluate(cfg: Config) -> Iterator[Stage]:
    """The stages of sampling each subject, then evaluate/scores over all of them."""
    for subject in cfg.evaluate.subjects:
        yield from _sampling(cfg, subject).stages()
    yield _scoring(cfg)


def _sampling(cfg: Config, name: str) -> Sampling:
    """Write evaluate/NAME/generations.jsonl."""
    subject, settings = subject_of(cfg, name), cfg.evaluate

    def work(folder: Path, inputs: Mapping[str, Path], samples: range) -> None:
        job = SamplingJob(
            inputs["model"],
            subject.form,
            read_jsonl(inputs["problems"], Problem),
            samples,
            seed=settings.seed,
            sampling=subject.sampling,
            lineage=name,
            folder=folder,
            label=f"evaluate {name}",
        )
        sample(subject.engine, job)

    config = {
        "sampling": fingerprinted(subject.sampling),
        "engine": fingerprinted(subject.engine),
        "samples_per_problem": settings.samples_per_problem,
        "seed": settings.seed,
        "model": fingerprinted(subject.form),
    }
    return Sampling(
        f"evaluate/{name}",
        {"model": subject.model, "problems": Output("problems", "heldout.jsonl")},
        config,
        work,
        samples=settings.samples_per_problem,
        samples_key="samples_per_problem",
        chunks=settings.chunks,
        resumable=True,
        batches=subject.engine.draws_batches,
        resources="evaluate",
        look=subject.look,
    )


def _scoring(cfg: Config) -> Stage:
    """Write evaluate/scores/SUBJECT.jsonl (graded), metrics.json and structure.json."""

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        from nemo_cot.evaluation.scores import score  # numpy
        from nemo_cot.traces.structure.profile import measured_sets, write_structure

        graded, sets = {}, {}
        for subject in cfg.evaluate.subjects:
            target = folder / f"{subject}.jsonl"
            grade_generations(inputs[subject], target, cfg.grade, folder, label=f"grade {subject}")
            graded[subject] = read_jsonl(target, Trace)
            sets[subject] = measured_sets(target, cfg.marks, label=f"measure {subject}", folder=folder)[""]
        scores = msgspec.json.encode(score(graded, cfg.evaluate))
        write_structure(folder / "structure.json", sets, cfg)
        write_bytes(folder / "metrics.json", msgspec.json.format(scores, indent=2) + b"\n")

    figures = ("samples_per_problem", "bootstrap_resamples", "confidence", "seed")
    return Stage(
        "evaluate/scores",
        inputs={subject: Output(f"evaluate/{subject}", GENERATIONS) for subject in cfg.evaluate.subjects},
        config={
            "grade": fingerprinted(cfg.grade),
            "grader_version": GRADER_VERSION,
            "evaluate": {key: getattr(cfg.evaluate, key) for key in figures},
            **marks_config(cfg.marks),
        },
        work=work,
        writes=("metrics.json", "structure.json", *(f"{subject}.jsonl" for subject in cfg.evaluate.subjects)),
        version=3,
        resumable=True,
        compare=compare_gradings,
    )


if __name__ == "__main__":
    recipe_main(evaluate)
