"""nemo-cot compare: differences between evaluated runs, paired by problem."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nemo_cot.config import Config
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.io.atomic import write_bytes, write_text
from nemo_cot.launchers.finished import output_file, run_and_part, split_arguments
from nemo_cot.stages import RunDirectory

SUBJECT = "trained"
"""The subject of a run given without one."""
_OPTIONS = ("--subject", "--json", "--markdown")
_KEYS = ("runs_dir", "experiment", "evaluate.bootstrap_resamples", "evaluate.confidence", "evaluate.seed")
_USAGE = "nemo-cot compare RUN[:SUBJECT] RUN[:SUBJECT] ..."


def compare_command(arguments: Sequence[str]) -> int:
    """``RUN[:SUBJECT] ... [--subject NAME] [--json FILE] [--markdown FILE] [overrides]``. Prints the
    comparison with the first run, and writes the files asked for. Raises UserError as :func:`compare`.
    """
    given = split_arguments(arguments, "nemo-cot compare", options=_OPTIONS, keys=_KEYS)
    cfg = load_config(given.overrides)
    if len(given.names) < 2:
        name = given.names[0].partition(":")[0] if given.names else "RUN"
        raise UserError(
            f"{len(given.names)} runs given, not 2 or more", where="nemo-cot compare",
            fix=f"{_USAGE}; two subjects of one run: {name}:base {name}:trained",
        )  # fmt: skip
    targets = {option: output_file(given.options[option]) for option in _OPTIONS[1:] if option in given.options}
    from nemo_cot.evaluation.comparison import compare
    from nemo_cot.evaluation.graded_runs import read_graded_run
    from nemo_cot.report.comparison_text import comparison_builtins, comparison_markdown, comparison_text

    subject = given.options.get("--subject", SUBJECT)
    places = [named(text, subject, cfg) for text in given.names]
    runs = [read_graded_run(run, of, label) for run, of, label in distinct(places)]
    settings = cfg.evaluate
    found = compare(
        runs, resamples=settings.bootstrap_resamples, confidence=settings.confidence, seed=settings.seed
    )
    print(comparison_text(found), end="")
    if "--json" in targets:
        json = msgspec.json.encode(comparison_builtins(found))
        write_bytes(targets["--json"], msgspec.json.format(json, indent=2) + b"\n")
    if "--markdown" in targets:
        write_text(targets["--markdown"], comparison_markdown(found))
    return 0


def named(text: str, subject: str, cfg: Config) -> tuple[RunDirectory, str, str]:
    """The run, subject and name of ``text``: RUN or RUN:SUBJECT, where RUN is a name or a path."""
    run, of = run_and_part(text, cfg.runs_dir)
    return run, of or subject, run.path.name


def distinct(places: Sequence[tuple[RunDirectory, str, str]]) -> list[tuple[RunDirectory, str, str]]:
    """The same with labels RUN:SUBJECT, with whole paths if two runs have the same name."""
    found, known = [], {(run.path, name) for run, _, name in places}
    for run, subject, name in places:
        alone = sum(other == name for _, other in known) == 1
        found.append((run, subject, f"{name if alone else run.path}:{subject}"))
    labels = [label for *_, label in found]
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise UserError("is given twice", where=twice, fix=_USAGE)
    return found
