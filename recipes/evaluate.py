"""evaluate: sample the held-out problems from the base and the trained model, grade, and score."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.evaluation.scores import score
from nemo_cot.evaluation.subjects import subject_of
from nemo_cot.grading import GRADER_VERSION
from nemo_cot.grading.moves import say_moves
from nemo_cot.grading.stage import grade_generations
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.jsonl import read_jsonl
from nemo_cot.records import Problem, Trace
from nemo_cot.sampling.chunks import GENERATIONS, Sampling, draws_batches
from nemo_cot.sampling.engines import sample
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.experiment.recipe import recipe_main


def evaluate(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """The stages of sampling each subject, then evaluate/scores over all of them (not for one chunk, also
    not for chunk 0 of 1: so a job samples beside others, and one alone scores).
    """
    for subject in cfg.evaluate.subjects:
        yield from _sampling(cfg, run, subject).stages(run)
    if cfg.evaluate.chunk is None:
        yield _scoring(cfg, run)


def _sampling(cfg: Config, run: RunDirectory, name: str) -> Sampling:
    """Write evaluate/NAME/generations.jsonl."""
    subject = subject_of(cfg, run, name)
    problems = run.artifact("problems", "heldout.jsonl")
    settings = cfg.evaluate

    def work(folder: Path, samples: range) -> None:
        job = SamplingJob(
            subject.model,
            subject.form,
            read_jsonl(problems, Problem),
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
        {"model": subject.model, "problems": problems},
        config,
        work,
        samples=settings.samples_per_problem,
        chunks=settings.chunks,
        chunk=settings.chunk,
        resumable=True,
        batches=draws_batches(subject.engine),
    )


def _scoring(cfg: Config, run: RunDirectory) -> Stage:
    """Write evaluate/scores/SUBJECT.jsonl (graded) and metrics.json."""
    inputs = {s: run.artifact(f"evaluate/{s}", GENERATIONS) for s in cfg.evaluate.subjects}

    def work(folder: Path) -> None:
        graded = {}
        for subject, generations in inputs.items():
            target = folder / f"{subject}.jsonl"
            grade_generations(generations, target, cfg.grade, folder, label=f"grade {subject}")
            say_moves(run.stage("evaluate/scores") / target.name, target)
            graded[subject] = read_jsonl(target, Trace)
        scores = score(graded, cfg.evaluate)
        write_bytes(
            folder / "metrics.json", msgspec.json.format(msgspec.json.encode(scores), indent=2) + b"\n"
        )

    figures = ("samples_per_problem", "bootstrap_resamples", "confidence", "seed")
    config = {
        "grade": fingerprinted(cfg.grade),
        "grader_version": GRADER_VERSION,
        "evaluate": {key: getattr(cfg.evaluate, key) for key in figures},
    }
    return Stage("evaluate/scores", inputs=inputs, config=config, work=work, version=3, resumable=True)


if __name__ == "__main__":
    recipe_main(evaluate)
