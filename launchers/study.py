"""The verbs of nemo-cot for a study or a sweep: run, plan, status, compare, report. submit and cancel: slurm/study.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nemo_cot.errors import EXIT_CODE, UserError, one_line
from nemo_cot.evaluation.sets import stage_on
from nemo_cot.experiment.compose import Composer
from nemo_cot.experiment.graph import graph
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.experiment.sharing import (
    PlannedRun,
    plan_study,
    print_study_warnings,
    refuse_study_errors,
)
from nemo_cot.experiment.study import SEEDS, Chosen, Study, StudyRun, chosen_study
from nemo_cot.io.atomic import write_text
from nemo_cot.io.json_file import DAMAGED, write_json
from nemo_cot.io.paths import CHAIN_FILE, user_path
from nemo_cot.launchers.slurm import study as slurm
from nemo_cot.progress import shown_progress
from nemo_cot.records import StageEnd
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import run_lock, stage_holders
from nemo_cot.stages.manifest import MANIFEST, changes, fingerprint_of, read_manifest

if TYPE_CHECKING:
    from nemo_cot.evaluation.graded_runs import GradedRun
    from nemo_cot.evaluation.study_table import StudyTable

FAILED = 1


def study_command(verb: str, arguments: Sequence[str]) -> int:
    """Carry out ``verb`` for the study or sweep that ``arguments`` name. Raises UserError."""
    verbs: dict[str, Callable[[Chosen], int]] = {
        "run": _run,
        "plan": _plan,
        "status": _status,
        "compare": _report,
        "report": _report,
        "submit": lambda chosen: slurm.submit_study(chosen, dry_run="--dry-run" in arguments),
        "cancel": slurm.cancel_study,
    }
    if verb not in verbs:
        fix = f"nemo-cot {verb} RUNS_DIR/STUDY/RUN ..., of one of its runs; a study takes {', '.join(verbs)}"
        raise UserError(f"takes no study: {verb}", where="study", fix=fix)
    return verbs[verb](chosen_study([a for a in arguments if a != "--dry-run"]))


def _run(chosen: Chosen) -> int:
    from nemo_cot.launchers.study_local import run_planned

    plan = plan_study(chosen)
    refuse_study_errors(plan)
    with run_lock(_folder(chosen.study)):
        ends = run_planned(plan, chosen.jobs)
    bad = [end for end in ends if end.outcome.startswith("failed")]
    for end in bad:
        print(one_line(f"{end.name} {end.outcome}"), flush=True)
    if chosen.study.baseline:
        whole = replace(chosen, only=frozenset(run.name for run in chosen.study.runs))
        try:
            _report(whole)
        except UserError as error:  # no run that is compared has scores yet, or the stages asked for make none
            print(one_line(f"no table yet: {f'{error.where}: ' if error.where else ''}{error.what}"), flush=True)
    else:
        print(one_line(f"compare them: nemo-cot compare {' '.join(run.name for run in chosen.runs)}"), flush=True)
    return FAILED if bad else 0


def _folder(study: Study) -> Path:
    """The study's directory, whose lock only one `run` holds; of a sweep a hidden one beside its runs."""
    folder = user_path(study.runs_dir) / ("" if study.baseline else ".sweep")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _plan(chosen: Chosen) -> int:
    """What would run in which run, each shared stage once. Writes nothing."""
    plan = plan_study(chosen, elsewhere=None)
    makers, console = plan.makers(), _console()
    recipes = list(dict.fromkeys(recipe for p in plan.chosen for recipe in p.chain.recipes))
    table = _table(f"plan of {chosen.study.runs_dir}", recipes)
    todo: set[str] = set()
    for planned in plan.chosen:
        table.add_row(escape(planned.name), *(escape(_planned(planned, recipe, makers)) for recipe in recipes))
        todo |= {k for n, k in planned.keys.items() if makers[k] is planned and planned.open(n)}
    console.print(table)
    print_study_warnings(plan)
    disk = [f"disk: {finding.what}" for _, finding in plan.found("ok") if finding.rule == "study_disk"]
    print("\n".join([*plan.lines("error"), *map(one_line, disk)]))
    asked = sum(p.open(name) for p in plan.chosen for name in p.keys)
    print(f"{len(plan.chosen)} runs, {asked} stages to do, of which {len(todo)} once each and the others shared", flush=True)
    return EXIT_CODE if plan.found("error") else 0


def _table(title: str, stages: Sequence[str]) -> Table:
    table = Table(title=escape(one_line(title)))
    table.add_column("run", no_wrap=True)
    for stage in stages:
        table.add_column(escape(stage))
    return table


def _console() -> Console:
    """As wide as the terminal; into a file or a pipe, as wide as a table of stages needs."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=200)


def _planned(planned: PlannedRun, recipe: str, makers: dict[str, PlannedRun]) -> str:
    own = [name for name in planned.steps if planned.steps[name].stage.recipe == recipe]
    if not own:
        return "-"
    todo = [name for name in own if name in planned.keys and planned.open(name)]
    if not todo:
        return "done" if recipe != "report" else "run"
    mine = [makers[planned.keys[name]] is planned for name in todo]
    return "run" if all(mine) else "run, shared" if any(mine) else "shared"


def _status(chosen: Chosen) -> int:
    """A table: run by stage. Needs nothing but the run directories, and the queue where runs were submitted."""
    composer, queued = Composer(), {}
    if any((user_path(chosen.study.runs_dir) / run.name / "slurm").is_dir() for run in chosen.runs):
        queued = slurm.queued_stages(chosen)
    rows: list[tuple[str, dict[str, str]]] = []
    for run in chosen.runs:
        cfg = composer.config(run.overrides)
        chain, directory = graph(cfg), run_directory(cfg)
        names = [n for n in chain.stages if n not in chain.wholes]
        rows.append((run.name, _states(directory, names, queued.get(run.name, {}))))
    stages = list(dict.fromkeys(name for _, states in rows for name in states))
    table = _table(chosen.study.runs_dir, stages)
    for name, states in rows:
        table.add_row(escape(name), *(escape(states.get(stage, "-")) for stage in stages))
    _console().print(table)
    done = sum(all(state in ("done", "reused") for state in states.values()) for _, states in rows)
    print(f"{done} of {len(rows)} runs are finished", flush=True)
    return 0


def _states(run: RunDirectory, stages: Sequence[str], queued: dict[str, str]) -> dict[str, str]:
    held, ended = stage_holders(run.path), _ended(run)
    found = {}
    for name in stages:
        manifest = run.stage(name) / MANIFEST
        partials = run.partials(name)
        if name in held:
            found[name] = f"running {shown_progress(partials[-1:]).partition('  ')[0]}".strip()
        elif name in queued:
            found[name] = queued[name]
        elif manifest.exists():
            found[name] = "done"
        elif (outcome := ended.get(name.partition("/")[0], "ok")) != "ok":
            found[name] = "failed" if outcome == "failed" else outcome.partition(":")[0]
        else:
            found[name] = "partial" if partials else "not run"
    return found


def _ended(run: RunDirectory) -> dict[str, str]:
    """How each recipe of the last chain ended; of one that still runs, those so far."""
    try:
        ends = msgspec.json.decode((run.path / CHAIN_FILE).read_bytes(), type=list[StageEnd])
    except (OSError, *DAMAGED):
        return {}
    return {end.stage: end.outcome for end in ends}


def _report(chosen: Chosen) -> int:
    """Print the table of the runs that are meant and of the baseline; that of all runs is also written, as study.md,
    study.json and study.html.
    """
    if not chosen.study.baseline:
        names = " ".join(run.name for run in chosen.runs)
        raise UserError("a sweep has no baseline", where="--multirun", fix=f"nemo-cot compare {names}")
    from nemo_cot.report.study_page import write_study_page
    from nemo_cot.report.study_text import study_markdown, study_notes, study_terminal

    compared_with = {run.name for run in chosen.study.runs if run.variant == chosen.study.baseline}
    chosen = replace(chosen, only=chosen.only | compared_with)
    composer = Composer()
    found = table_of(chosen, composer)
    _console().print(study_terminal(found))
    for note in study_notes(found):
        print(one_line(note))
    if len(chosen.runs) == len(chosen.study.runs):  # files of a part would replace those of the whole
        folder = user_path(chosen.study.runs_dir)
        write_json(folder / "study.json", found)
        write_text(folder / "study.md", study_markdown(found))
        cfg = composer.config(chosen.runs[0].overrides)
        limit = round(cfg.report.max_megabytes * 1e6)
        write_study_page(found, folder, folder / "study.html", marks=cfg.marks, max_bytes=limit)
        print(one_line(f"table: {folder / 'study.html'}, study.md, study.json"), flush=True)
    return 0


def table_of(chosen: Chosen, composer: Composer) -> StudyTable:
    """The table of the finished runs among those chosen. Raises UserError as evaluation/study_table.py does."""
    from nemo_cot.evaluation.graded_runs import graded_files
    from nemo_cot.evaluation.study_table import Repeat, study_table

    study = chosen.study
    settings = composer.config(chosen.runs[0].overrides).evaluate.intervals
    repeats, missing, subjects = [], {}, {}
    outdated: dict[str, list[str]] = {}
    for run in chosen.runs:
        subjects[run.variant] = run.subject
        directory = RunDirectory(user_path(study.runs_dir) / run.name)
        if run.subject not in graded_files(directory):
            missing.setdefault(run.variant, []).append(run.name)
            continue
        if change := _outdated(directory, run, composer):
            outdated.setdefault(change, []).append(run.name)
        seeds = {SEEDS[key]: value for key, value in run.seeds.items()}
        repeats.append(Repeat(run.variant, run.name, seeds, _reader(directory, run)))
    found = study_table(
        repeats,
        study=study.name,
        title=study.title,
        baseline=study.baseline,
        subjects=subjects,
        measures=study.measures,
        missing=missing,
        **(settings if "evaluate.seed" not in chosen.runs[0].seeds else {**settings, "seed": 0}),
    )
    found.warnings[:0] = [
        f"made with other settings than the study has now: {', '.join(names)} ({change}). Run the study again, or give the "
        "overrides of that time"
        for change, names in outdated.items()
    ]
    return found


def _outdated(directory: RunDirectory, run: StudyRun, composer: Composer) -> str:
    """The first stage behind the scores whose config was another one, and what differs; empty where none was. Inputs are
    not hashed: `plan` does.
    """
    chain = graph(composer.config(run.overrides))
    own = [name for name in (stage_on("", run.subject), stage_on("", "scores")) if name in chain.stages]
    for name in (*chain.before(own[:1]).stages, *own):
        stage, there = chain.stages[name], read_manifest(directory.stage(name))
        if there is None:
            continue
        inputs = {label: one.sha256 for label, one in there.inputs.items() if not one.part}
        if there.fingerprint != fingerprint_of(name, stage.version, stage.config, inputs):
            return f"{name}: {'; '.join(changes(there, stage.config, inputs, stage.version)[:3])}"
    return ""


def _reader(directory: RunDirectory, run: StudyRun) -> Callable[..., GradedRun | None]:
    from nemo_cot.evaluation.graded_runs import graded_files, read_graded_run

    def read(name: str = "") -> GradedRun | None:
        there = not name or run.subject in graded_files(directory, name)
        return read_graded_run(directory, run.subject, f"{run.name}:{run.subject}", name) if there else None

    return read
