"""grade: find the answer in every generation and compare it with the expected one."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.grading.moves import compare_gradings
from nemo_cot.grading.scorers import scorer_versions
from nemo_cot.grading.stage import grade_generations
from nemo_cot.stages import Stage
from nemo_cot.traces.refine import generations


def grade(cfg: Config) -> Iterator[Stage]:
    """Write graded.jsonl; a new grader version grades old generations again and shows which verdicts moved."""

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        grade_generations(inputs["generations"], folder / "graded.jsonl", cfg.grade, folder, label="grade")

    yield Stage(
        "grade",
        inputs={"generations": generations(cfg)},
        config={"grade": fingerprinted(cfg.grade), "grader_version": scorer_versions(cfg.problems.scorers)},
        work=work,
        writes=("graded.jsonl",),
        resumable=True,
        compare=compare_gradings,
    )


if __name__ == "__main__":
    recipe_main(grade)
