"""problems: make the training problems (for the teacher) and the held-out ones (for the evaluation)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.config.checks import fingerprinted
from nemo_cot.experiment.recipe import recipe_main
from nemo_cot.io.jsonl import write_jsonl
from nemo_cot.io.paths import user_path
from nemo_cot.problems import make_problems
from nemo_cot.stages import Stage


def problems(cfg: Config) -> Iterator[Stage]:
    """Write train.jsonl and heldout.jsonl, with no problem in both."""

    def work(folder: Path, _: Mapping[str, Path]) -> None:
        made = make_problems(cfg.problems, cfg.teacher)
        write_jsonl(folder / "train.jsonl", made.train)
        write_jsonl(folder / "heldout.jsonl", made.heldout)
        if made.left_out:
            reasons = ", ".join(f"{count} {reason}" for reason, count in made.left_out.items())
            print(f"  {len(made.train)} training problems; left out: {reasons}")

    files = {label: user_path(path) for label, path in cfg.problems.files.items()}
    # A problem without an id is named after its file.
    names = {f"{label}_name": path.stem for label, path in files.items()}
    config = {"problems": {**fingerprinted(cfg.problems), **names}}
    if cfg.problems.of_traces and cfg.teacher.traces:
        files["traces"] = user_path(cfg.teacher.traces.path)
        config["teacher"] = fingerprinted(cfg.teacher)
    yield Stage("problems", inputs=files, config=config, work=work, writes=("train.jsonl", "heldout.jsonl"))


if __name__ == "__main__":
    recipe_main(problems)
