"""evaluate: sample the held-out problems from the base and the trained model, grade, and score, on each held-out set;
some models are asked with examples before the problem.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.evaluation.examples import (
    chosen_examples,
    read_examples,
    traces_source,
    turns,
    with_examples,
)
from nemo_cot.evaluation.sets import HeldOut, held_out_sets
from nemo_cot.evaluation.subjects import asked_of, steps_of, subject_names, subject_of
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.grading.moves import compare_gradings
from nemo_cot.grading.scorers import scorer_versions
from nemo_cot.grading.stage import grade_generations
from nemo_cot.io.json_file import write_json
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.models.format import format_config
from nemo_cot.records import Problem, Trace
from nemo_cot.sampling.chunks import Sampling
from nemo_cot.sampling.engines import sample
from nemo_cot.sampling.job import SamplingJob
from nemo_cot.stages import Stage
from nemo_cot.text import TextTokenizer
from nemo_cot.traces.keys import marks_config


def evaluate(cfg: Config) -> Iterator[Stage]:
    """On each held-out set: the stages of choosing each subject's examples (if it has some) and of sampling it, then
    evaluate/scores (of a further set: evaluate/SET/scores) over all of them.
    """
    asked_with_examples = [name for name in subject_names(cfg) if cfg.evaluate.examples_of(name) is not None]
    yield from (_choosing(one, subject) for one in held_out_sets(cfg) for subject in asked_with_examples)
    for one in held_out_sets(cfg):
        for subject in subject_names(cfg):
            yield from _sampling(one, subject).stages()
        yield _scoring(one)


def _choosing(one: HeldOut, name: str) -> Stage:
    """Write evaluate/examples-NAME/examples.jsonl: its digest is the examples', for the sampling's fingerprint."""
    cfg, examples_at = one.cfg, one.examples(name)
    subject, asked = subject_of(cfg, name), asked_of(cfg, name)
    assert subject.examples is not None
    examples = subject.examples

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        heldout = read_jsonl(inputs["problems"], Problem)
        chosen = chosen_examples(inputs["traces"], examples, asked, inputs["tokenizer"].parent, heldout)
        write_jsonl(folder / examples_at.file, chosen)
        print(f"  {len(chosen)} examples of {sum(e.num_tokens for e in chosen)} tokens")

    return Stage(
        examples_at.stage,
        inputs={
            "traces": traces_source(cfg, examples, asked.key),
            "problems": one.problems,
            "tokenizer": subject.files("tokenizer.json"),
            "config": subject.files("config.json"),
        },
        config={
            "examples": fingerprinted(examples),
            "model": format_config(subject.form),
            "max_new_tokens": asked.max_new_tokens,
            "max_model_len": asked.max_model_len,
        },
        work=work,
        writes=(examples_at.file,),
    )


def _sampling(one: HeldOut, name: str) -> Sampling:
    """Write evaluate/NAME/generations.jsonl."""
    subject, settings = subject_of(one.cfg, name), one.cfg.evaluate
    shots, client = subject.form.shots, subject.engine.client

    def work(folder: Path, inputs: Mapping[str, Path], samples: range) -> None:
        form, said = subject.form, ()
        examples = read_examples(inputs["examples"]) if shots else []
        if client and client.endpoint == "chat":
            said = turns(form, examples)
        elif shots:
            form = with_examples(form, examples, inputs["model"])
        job = SamplingJob(
            inputs["model"],
            form,
            read_jsonl(inputs["problems"], Problem),
            samples,
            seed=settings.seed,
            sampling=subject.sampling,
            lineage=name,
            folder=folder,
            label=f"evaluate {one.named(name)}",
            turns=said,
            examples=tuple(example.name for example in examples),
        )
        sample(subject.engine, job)

    config = {
        "sampling": fingerprinted(subject.sampling),
        "engine": fingerprinted(subject.engine),
        "samples_per_problem": settings.samples_per_problem,
        "seed": settings.seed,
        "model": format_config(subject.form),
        **({"examples": {"between": shots.between, "stops": list(shots.stops)}} if shots else {}),
    }
    examples = {"examples": one.examples(name)} if shots else {}
    return Sampling(
        one.stage(name),
        {"model": subject.model, "problems": one.problems, **examples},
        config,
        work,
        samples=settings.samples_per_problem,
        samples_key="samples_per_problem",
        chunks=settings.chunks,
        resumable=True,
        batches=subject.engine.draws_batches,
        resources="evaluate",
        look=subject.look,
        server=(name, client.server) if client and not client.server.base_url else None,
    )


def _scoring(one: HeldOut) -> Stage:
    """Write evaluate/scores/SUBJECT.jsonl (graded), metrics.json and structure.json."""
    cfg = one.cfg
    subjects, steps = subject_names(cfg), steps_of(cfg)
    recut = {name: subject_of(cfg, name) for name in subjects if cfg.evaluate.over_budget == "found"}
    recut = recut if cfg.evaluate.token_budgets else {}

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        from nemo_cot.evaluation.budgets import graded_within
        from nemo_cot.evaluation.scores import score  # numpy
        from nemo_cot.traces.structure.profile import measured_sets, write_structure

        graded, sets, cut = {}, {}, {}
        for subject in subjects:
            target, shown = folder / f"{subject}.jsonl", one.named(subject)
            grade_generations(inputs[subject], target, cfg.grade, folder, label=f"grade {shown}")
            graded[subject] = read_jsonl(target, Trace)
            sets[subject] = measured_sets(target, cfg.marks, label=f"measure {shown}", folder=folder)[""]
            if subject in recut:
                tokenizer = TextTokenizer(inputs[f"{subject} tokenizer"].parent, recut[subject].form)
                rows, label = graded[subject], f"grade {shown}"
                cut[subject] = graded_within(
                    rows, cfg.evaluate.token_budgets, tokenizer, cfg.grade, folder, label=label
                )
        scores = score(graded, cfg.evaluate, steps, cut)
        write_structure(folder / "structure.json", sets, cfg)
        write_json(folder / "metrics.json", scores)

    budgets: dict[str, object] = (
        {"token_budgets": list(cfg.evaluate.token_budgets)} if cfg.evaluate.token_budgets else {}
    )
    budgets |= {"over_budget": "found"} if recut else {}
    figures = ("samples_per_problem", "bootstrap_resamples", "confidence", "seed")
    return Stage(
        one.stage("scores"),
        inputs={
            **{subject: one.generations(subject) for subject in subjects},
            **{f"{name} tokenizer": found.files("tokenizer.json") for name, found in recut.items()},
        },
        config={
            "grade": fingerprinted(cfg.grade),
            "grader_version": scorer_versions(cfg.problems.scorers),
            "evaluate": {key: getattr(cfg.evaluate, key) for key in figures} | budgets,
            **({"steps": steps} if steps else {}),
            **marks_config(cfg.marks),
        },
        work=work,
        writes=("metrics.json", "structure.json", *(f"{subject}.jsonl" for subject in subjects)),
        version=5,
        resumable=True,
        compare=compare_gradings,
    )


if __name__ == "__main__":
    recipe_main(evaluate)
