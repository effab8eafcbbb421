"""generate: several solutions to each training problem, by a procedure, a model or from a file."""

from collections.abc import Iterator
from functools import partial

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.models.format import base_model, format_config
from nemo_cot.sampling.chunks import Sampling
from nemo_cot.stages import Output, Stage
from nemo_cot.traces.teachers import teacher_inputs, write_traces


def generate(cfg: Config) -> Iterator[Stage]:
    """Write generations.jsonl: generate.samples_per_problem traces per training problem, in
    generate.chunks parts if more than one.
    """
    yield from Sampling(
        "generate",
        inputs={
            "problems": Output("problems", "train.jsonl"),
            "tokenizer": base_model(cfg.model) / "tokenizer.json",
            **teacher_inputs(cfg),
        },
        config={
            "teacher": fingerprinted(cfg.teacher),
            **({"prompt": fingerprinted(cfg.teacher_prompt)} if cfg.teacher_prompt else {}),
            "generate": fingerprinted(cfg.generate),
            "model": format_config(cfg.model),
        },
        work=partial(write_traces, cfg),
        samples=cfg.generate.samples_per_problem,
        samples_key=None if cfg.teacher.in_one_piece else "generate.samples_per_problem",
        chunks=1 if cfg.teacher.in_one_piece else cfg.generate.chunks,  # a file is read as a whole
        resumable=cfg.teacher.resumable,
        batches=cfg.teacher.draws_batches,
        resources="generate",
    ).stages()


if __name__ == "__main__":
    recipe_main(generate)
