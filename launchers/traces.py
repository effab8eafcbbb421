"""nemo-cot traces: the structure of sets of traces, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_cot.config import Config
from nemo_cot.errors import UserError, nearest, one_line
from nemo_cot.experiment.compose import load_config
from nemo_cot.io.atomic import write_text
from nemo_cot.io.json_file import write_json
from nemo_cot.io.paths import user_path
from nemo_cot.launchers.finished import output_file, run_and_part, split_arguments
from nemo_cot.stages import RunDirectory
from nemo_cot.traces.refine import REFINED

if TYPE_CHECKING:
    from nemo_cot.traces.structure.profile import Measured, Structure

VERB = "nemo-cot traces"
USAGE = f"{VERB} FILE.jsonl|RUN[:WHERE] ..."
_OPTIONS = ("--json", "--plot", "--by", "--measures", "--model", "--surprise")
_KEYS = (
    "runs_dir", "experiment", "marks", "model", "evaluate.bootstrap_resamples", "evaluate.confidence", "evaluate.seed",
    "evaluate.sampling.precision", "evaluate.sampling.device",
)  # fmt: skip
PLACES = {
    "pool": "grade/graded.jsonl", "chosen": "curate/traces.jsonl", "transformed": "transform/traces.jsonl",
    "generated": "generate/generations.jsonl",
}  # fmt: skip
"""WHERE in a run, beside the subjects of its evaluation (SET/SUBJECT: on a further held-out set) and `refined`: the
traces after the last pass of refine.
"""
SHOWN = ("pool", "chosen", "transformed")
"""Of a run that is named alone, with all of its subjects."""


def traces_command(arguments: Sequence[str]) -> int:
    """``FILE|RUN[:WHERE] ... [--by KEY] [--measures A,B] [--model DIR] [--surprise FILE] [--json FILE]
    [--plot FILE.html|svg] [overrides]``. Prints a table of all measures with intervals. Raises UserError for
    what cannot be read.
    """
    given = split_arguments(arguments, VERB, options=_OPTIONS, keys=_KEYS)
    cfg = load_config(given.overrides)
    targets = {
        option: output_file(given.options[option])
        for option in ("--json", "--plot", "--surprise")
        if option in given.options
    }
    if "--plot" in targets and targets["--plot"].suffix not in (".html", ".svg"):
        raise UserError(
            "is neither .html nor .svg", where=f"--plot {targets['--plot']}", fix="name a file of either kind"
        )
    files: dict[str, Path] = {}
    for text in dict.fromkeys(given.names):
        for name, path in _files(text, cfg).items():
            if path not in files.values():
                files[name if name not in files else str(path)] = path
    if "--surprise" in targets and "--model" not in given.options:
        raise UserError(
            "needs a model", where="--surprise", fix="add --model DIR, such as runs/NAME/convert/model"
        )
    if not files:
        raise UserError("no traces are named", where=VERB, fix=USAGE)
    from nemo_cot.traces.structure.profile import measured_sets, structure

    names, by = _measures(given.options.get("--measures")), given.options.get("--by")
    sets: dict[str, Measured] = {}
    for name, path in files.items():
        for group, found in measured_sets(path, cfg.marks, names=names, by=by, label=one_line(name)).items():
            sets[one_line(f"{name} {group}")] = found
    if "--model" in given.options:
        from nemo_cot.traces.surprise import add_surprise

        if by:
            raise UserError("does not go with --by", where="--model", fix="leave one of them out")
        add_surprise(
            sets,
            {one_line(name): path for name, path in files.items()},
            user_path(given.options["--model"]),
            cfg,
            details=targets.get("--surprise"),
        )
    found = structure(sets, cfg.marks, **cfg.evaluate.intervals)
    print(structure_text(found), end="")
    if "--json" in targets:
        write_json(targets["--json"], found)
    if "--plot" in targets:
        from nemo_cot.report.structure_plot import structure_html, structure_svg

        draw = structure_svg if targets["--plot"].suffix == ".svg" else structure_html
        write_text(targets["--plot"], draw(found, sets))
    return 0


def _measures(text: str | None) -> list[str]:
    from nemo_cot.traces.structure import measure_names

    names = text.split(",") if text else []
    for name in names:
        if name not in measure_names():
            fix = nearest(name, measure_names(), f"choose among {', '.join(measure_names())}")
            raise UserError(f"there is no measure {name!r}", where="--measures", fix=fix)
    return names


def _files(text: str, cfg: Config) -> dict[str, Path]:
    """The files that ``text`` names, by what the table calls them: a file, a run, or one place of a run."""
    if user_path(text).is_file():
        return {Path(text).name: user_path(text)}
    return _of_run(*run_and_part(text, cfg.runs_dir, what="file or run"))


def _of_run(run: RunDirectory, where: str) -> dict[str, Path]:
    places = {name: run.path / file for name, file in PLACES.items()}
    from nemo_cot.evaluation.graded_runs import graded_files, scored_sets

    passes = {path.parent.name: path for path in run.path.glob(f"refine/[0-9]*-*/{REFINED}")}
    if passes:
        places["refined"] = passes[max(passes, key=lambda name: (int(name.partition("-")[0]), name))]
    subjects = {
        f"{name}/{subject}" if name else subject: path
        for name in ("", *scored_sets(run))
        for subject, path in graded_files(run, name).items()
    }
    there = {name: path for name, path in {**places, **subjects}.items() if path.is_file()}
    if where and where not in there:
        fix = f"choose among {', '.join(there) or 'nothing yet'}; or run the stage"
        raise UserError(f"there are no traces {where!r}", where=f"{run.path.name}:{where}", fix=fix)
    chosen = [where] if where else [name for name in there if name in SHOWN or name in subjects]
    if not chosen:
        raise UserError(
            "this run has no graded traces yet", where=str(run.path), fix="run its stages generate and grade"
        )
    return {f"{run.path.name}:{name}": there[name] for name in chosen}


def structure_text(found: Structure) -> str:
    """The table for a terminal: a row per measure, a column per set."""
    sets = list(found.sets)
    rows = [["measure", "unit", *map(one_line, sets)]]
    rows.append(["traces (problems)", "count", *(f"{p.traces} ({p.problems})" for p in found.sets.values())])
    for name, unit in found.units.items():
        rows.append([name, unit, *(_cell(profile.measures[name]) for profile in found.sets.values())])
    rows.append(["similarity within", "cosine", *(_number(p.similarity) for p in found.sets.values())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines.append(
        f"\nMeans over problems, [{found.confidence:.0%} interval, bootstrap over problems]; marks: {', '.join(found.marks) or 'none'}"
    )
    transitions = {(a, b): r for a, b, r in found.transition_similarity}
    for first, second, cosine in found.text_similarity:
        r = _number(transitions[first, second])
        lines.append(
            f"{one_line(first)} and {one_line(second)}: transitions r = {r}, words cosine = {_number(cosine)}"
        )
    return "\n".join(lines) + "\n"


def _cell(figure) -> str:
    if figure.value is None:
        return "-"
    return f"{_number(figure.value)} [{_number(figure.low)}, {_number(figure.high)}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
