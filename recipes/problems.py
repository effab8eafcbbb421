"""problems: make the training problems (for the teacher) and the held-out ones (for the evaluation)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.evaluation.sets import HELDOUT, HeldOut, further_sets
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.jsonl import read_jsonl, write_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.problems import ProblemSet, check_apart, make_problems
from nemo_cot.records import Problem
from nemo_cot.stages import Output, Stage

TRAIN = "train.jsonl"


def problems(cfg: Config) -> Iterator[Stage]:
    """Write train.jsonl and heldout.jsonl, with no problem in both; and heldout.jsonl of each of evaluate.sets."""

    def work(folder: Path, _: Mapping[str, Path]) -> None:
        made = make_problems(cfg.problems, cfg.teacher)
        write_jsonl(folder / TRAIN, made.train)
        write_jsonl(folder / HELDOUT, made.heldout)
        _print(f"{len(made.train)} training and {len(made.heldout)} held-out problems", made)

    files, config = _read(cfg)
    if cfg.problems.of_traces and cfg.teacher.traces:
        files["traces"] = user_path(cfg.teacher.traces.path)
        config["teacher"] = fingerprinted(cfg.teacher)
    yield Stage("problems", inputs=files, config=config, work=work, writes=(TRAIN, HELDOUT))
    yield from map(_of_set, further_sets(cfg))


def _of_set(one: HeldOut) -> Stage:
    """Write heldout.jsonl of a further set, in which no training problem is."""

    def work(folder: Path, inputs: Mapping[str, Path]) -> None:
        made = make_problems(one.cfg.problems)
        check_apart(read_jsonl(inputs["training"], Problem, allow_empty=True), made.heldout, of=f" of {one.name}")
        write_jsonl(folder / HELDOUT, made.heldout)
        _print(f"{len(made.heldout)} problems of {one.name}", made)

    files, config = _read(one.cfg)
    inputs = {**files, "training": Output("problems", TRAIN)}
    return Stage(one.problems.stage, inputs=inputs, config=config, work=work, writes=(HELDOUT,))


def _print(kept: str, made: ProblemSet) -> None:
    """What was left out, and why; nothing where nothing was."""
    if made.left_out:
        print(f"  {kept}; left out: {', '.join(f'{count} {reason}' for reason, count in made.left_out.items())}")


def _read(cfg: Config) -> tuple[dict[str, Path], dict[str, Any]]:
    """The files that the problems are read from, and the config that decides them."""
    files = {label: user_path(path) for label, path in cfg.problems.files.items()}
    # A problem without an id is named after its file.
    names = {f"{label}_name": path.stem for label, path in files.items()}
    return files, {"problems": {**fingerprinted(cfg.problems), **names}}


if __name__ == "__main__":
    recipe_main(problems)
