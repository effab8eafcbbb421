"""grade: find the answer in every generation and compare it with the expected one."""

from collections.abc import Iterator
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.grading import GRADER_VERSION
from nemo_cot.grading.moves import say_moves
from nemo_cot.grading.stage import grade_generations
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.experiment.recipe import recipe_main


def grade(cfg: Config, run: RunDirectory) -> Iterator[Stage]:
    """Write graded.jsonl; a new grader version grades the old generations again and tells what moved."""
    generations = run.artifact("generate", "generations.jsonl")
    before = run.stage("grade") / "graded.jsonl"

    def work(folder: Path) -> None:
        grade_generations(generations, folder / "graded.jsonl", cfg.grade, folder, label="grade")
        say_moves(before, folder / "graded.jsonl")

    yield Stage(
        "grade",
        inputs={"generations": generations},
        config={"grade": fingerprinted(cfg.grade), "grader_version": GRADER_VERSION},
        work=work,
        resumable=True,
    )


if __name__ == "__main__":
    recipe_main(grade)
