"""nemo-cot report: write the report of a run again, from whatever the run has, or one about several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nemo_cot.config.overrides import hydra_quoted
from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.existing import CONFIG_FILE, find_run
from nemo_cot.io.paths import user_path
from nemo_cot.launchers.finished import as_overrides, split_arguments
from nemo_cot.recipes.report import report
from nemo_cot.report.files import MARKDOWN, PAGE
from nemo_cot.stages import run_stage
from nemo_cot.stages.lock import run_lock
from nemo_cot.stages.manifest import MANIFEST

USAGE = "nemo-cot report [RUN [RUN[:SUBJECT] ...]] [--output DIR]"
_OUTPUT = "--output"
_FOLDER = "reports"
_LONGEST = 100
"""Characters of a folder's name."""


def report_command(arguments: Sequence[str]) -> int:
    """``[RUN ...] [--output DIR] [overrides]``: without RUN the run of the overrides, with one that run, with
    several (or with subjects) a comparison with the first, in --output or runs_dir/reports. Prints the paths.
    Raises UserError.
    """
    given = split_arguments(arguments, "nemo-cot report", options=(_OUTPUT,))
    runs, overrides = given.names, given.overrides
    output = user_path(given.options[_OUTPUT]) if _OUTPUT in given.options else None
    if not runs or (len(runs) == 1 and ":" not in runs[0]):
        if output is not None:
            raise UserError(
                "the report of one run lies in its folder", where=_OUTPUT, fix=f"leave it out; {USAGE}"
            )
        return write_report_again(as_overrides(given, "nemo-cot report"))
    return compare_runs(runs, overrides, output)


def write_report_again(overrides: Sequence[str]) -> int:
    """Write it even if nothing has changed, and print its path. Raises UserError if there is no such run, or
    if a chain is running in it.
    """
    cfg, run = find_run(overrides)
    [stage] = report(cfg)
    with run_lock(run.path):
        (run.stage(stage.name) / MANIFEST).unlink(missing_ok=True)  # so that the stage is not skipped
        run_stage(stage, run)
    _print(run.stage("report"))
    return 0


def compare_runs(names: Sequence[str], overrides: Sequence[str], output: Path | None) -> int:
    """One report about several runs on the same problems. Raises UserError as `nemo-cot compare`."""
    from nemo_cot.launchers.compare import SUBJECT, compared, distinct, named
    from nemo_cot.report.compared import Variant, write_comparison

    cfg = load_config(overrides)
    if len(names) < 2:
        raise UserError("1 run with a subject, not 2 or more", where=names[0], fix=USAGE)
    chosen = distinct([named(text, SUBJECT, cfg) for text in names])
    sets, read = compared(chosen, cfg)
    own = sets.pop("")
    variants = [
        Variant(run, subject, read[""][i], *_origin(run.path), sets={name: read[name][i] for name in sets})
        for i, (run, subject, _) in enumerate(chosen)
    ]
    folder = output or user_path(cfg.runs_dir) / _FOLDER / _folder_of([v.label for v in variants])
    title = cfg.report.title or " and ".join(one_line(v.label) for v in variants[:4])
    limit = round(cfg.report.max_megabytes * 1e6)
    write_comparison(own, variants, folder, title=title, marks=cfg.marks, max_bytes=limit, sets=sets)
    _print(folder)
    return 0


def _origin(run: Path) -> tuple[str, list]:
    """The command that reproduces the run, and what differs from the defaults; nothing without a config of
    this version.
    """
    from nemo_cot.experiment.reproduce import origin

    if not (run / CONFIG_FILE).is_file():
        return "", []
    try:
        cfg, _ = find_run([f"name={run.name}", f"runs_dir={hydra_quoted(str(run.parent))}"])
        return origin(cfg)
    except UserError:
        return "", []


def _folder_of(labels: Sequence[str]) -> str:
    """A name for the folder of a comparison, made of the runs'."""
    plain = ["".join(c if c.isalnum() or c in "-_." else "-" for c in label) for label in labels]
    name = "+".join(plain)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 14]}+{len(labels)}-runs"


def _print(folder: Path) -> None:
    print(one_line(f"report: {folder / PAGE}"))
    print("        " + one_line(str(folder / MARKDOWN)), flush=True)
