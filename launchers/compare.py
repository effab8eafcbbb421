"""nemo-cot compare: differences between evaluated runs, paired by problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nemo_cot.config import Config
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.io.atomic import write_text
from nemo_cot.io.json_file import write_json
from nemo_cot.launchers.finished import output_file, run_and_part, split_arguments
from nemo_cot.stages import RunDirectory

if TYPE_CHECKING:
    from nemo_cot.evaluation.comparison import Comparison
    from nemo_cot.evaluation.graded_runs import GradedRun

SUBJECT = "trained"
"""The subject of a run given without one."""
_OPTIONS = ("--subject", "--set", "--json", "--markdown")
_KEYS = ("runs_dir", "experiment", "evaluate.bootstrap_resamples", "evaluate.confidence", "evaluate.seed")
_USAGE = "nemo-cot compare RUN[:SUBJECT] RUN[:SUBJECT] ... [--set NAME]"


def compare_command(arguments: Sequence[str]) -> int:
    """``RUN[:SUBJECT] ... [--subject NAME] [--set NAME] [--json FILE] [--markdown FILE] [overrides]``. Prints the
    comparison with the first run on each held-out set that all have, and writes the files asked for. Raises UserError
    as :func:`compare`.
    """
    given = split_arguments(arguments, "nemo-cot compare", options=_OPTIONS, keys=_KEYS)
    cfg = load_config(given.overrides)
    if len(given.names) < 2:
        name = given.names[0].partition(":")[0] if given.names else "RUN"
        raise UserError(
            f"{len(given.names)} runs given, not 2 or more", where="nemo-cot compare",
            fix=f"{_USAGE}; two subjects of one run: {name}:base {name}:trained",
        )  # fmt: skip
    targets = {option: output_file(given.options[option]) for option in ("--json", "--markdown") if option in given.options}
    from nemo_cot.report.comparison_text import comparison_markdown, comparison_text, sets_builtins

    subject = given.options.get("--subject", SUBJECT)
    places = distinct([named(text, subject, cfg) for text in given.names])
    found, _ = compared(places, cfg, given.options.get("--set"))
    print("\n".join(map(comparison_text, found.values())), end="")
    if "--json" in targets:
        write_json(targets["--json"], sets_builtins(found))
    if "--markdown" in targets:
        write_text(targets["--markdown"], comparison_markdown(list(found.values())))
    return 0


def compared(
    places: Sequence[tuple[RunDirectory, str, str]], cfg: Config, wanted: str | None = None
) -> tuple[dict[str, Comparison], dict[str, list[GradedRun]]]:
    """The comparison of ``places`` (run, subject, label) on the runs' own held-out problems (an empty name) and each
    further set that all have, or on the set that is ``wanted`` alone; and what was read of each. Raises UserError.
    """
    from nemo_cot.evaluation.comparison import compare_sets
    from nemo_cot.evaluation.graded_runs import common_sets, read_graded_run

    common = common_sets([(run, subject) for run, subject, _ in places])
    if wanted is not None and wanted not in common:
        fix = f"choose among {', '.join(common)}" if common else "leave it out"
        raise UserError(f"not all of them have scores on a set {wanted!r}", where="--set", fix=fix)
    read: dict[str, list[GradedRun]] = {}

    def read_set(name: str) -> list[GradedRun]:
        read[name] = [read_graded_run(run, subject, label, name) for run, subject, label in places]
        return read[name]

    sets = ["", *common] if wanted is None else [wanted]
    try:
        found = compare_sets(read_set, sets, **cfg.evaluate.intervals)
    except UserError as error:
        if not common or wanted is not None:
            raise
        fix = f"{error.fix}; or on a set that all have: --set {common[0]}"
        raise UserError(error.what, where=error.where, fix=fix) from None
    return found, read


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
