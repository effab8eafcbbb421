"""Several runs that belong together: a study file, conf/study/NAME.yaml, or a sweep of Hydra's grammar.

A study names its runs (each a list of overrides), the baseline among them, the seeds over which each is repeated,
and what is compared. Its runs lie in RUNS_DIR/STUDY, one directory per run and repeat.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nemo_cot.config import check_name
from nemo_cot.config.overrides import hydra_quoted
from nemo_cot.errors import UserError, nearest
from nemo_cot.evaluation.compared import COMPARED
from nemo_cot.evaluation.sets import stage_on
from nemo_cot.experiment.compose import STUDY, Composer, parse_override, text_as_typed, to_dataclasses
from nemo_cot.experiment.graph import Graph, whole_graph
from nemo_cot.experiment.groups import EXTRA_CONF, file_of, files_of
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.io.paths import user_path

SEEDS = {
    "generate.seed": "generation",
    "curate.seed": "selection",
    "train.seed": "training",
    "evaluate.seed": "sampling",
}
"""The seeds that repeats may vary, and what each decides, in the order in which they act."""
SAMPLING = "evaluate.seed"
"""The only one that acts on every model that is asked."""
MULTIRUN = ("--multirun", "-m")
_OPTIONS = ("--only", "--jobs")


class VariantFile(msgspec.Struct, forbid_unknown_fields=True):
    """One named run of a study file; ``subject``: which of its evaluated models is compared."""

    overrides: list[str]
    subject: str = "trained"


class StudyFile(msgspec.Struct, forbid_unknown_fields=True):
    """conf/study/NAME.yaml. ``overrides`` are those of all runs. ``repeats``: lists of values per seed, of which every
    combination is run, or a list of combinations. ``reuse``: runs beside the study whose finished stages are
    reused, where they exist.
    """

    runs: dict[str, list[str] | VariantFile]
    baseline: str
    title: str = ""
    overrides: list[str] = []
    repeats: dict[str, list[int]] | list[dict[str, int]] = {}
    measures: tuple[str, ...] = ("lenient", "pass_at_k", "majority_equivalence", "format_rate")
    reuse: list[str] = []


@dataclass(frozen=True)
class StudyRun:
    """One run: its directory is ``name`` below the study's. ``seeds``: those of the study's repeats, by key; None for one
    over which the variant is not repeated, since it does not act on it.
    """

    name: str
    variant: str
    subject: str
    seeds: dict[str, int | None]
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """``runs_dir``: where its runs lie. ``baseline`` empty: a sweep, in which nothing is compared."""

    name: str
    runs_dir: str
    runs: list[StudyRun]
    title: str = ""
    baseline: str = ""
    measures: tuple[str, ...] = ()

    @property
    def sets(self) -> tuple[str, ...]:
        """The held-out sets that are compared: the runs' own, whose name is empty, and those of measures."""
        return tuple(dict.fromkeys(["", *(measure.rpartition(".")[0] for measure in self.measures)]))


def scores_of(whole: Graph, subject: str, sets: Sequence[str]) -> tuple[str | None, ...]:
    """Graph.keys of what ``subject`` is scored from on each of ``sets``; None where it is not asked."""
    keys = whole.keys
    return tuple(keys.get(stage_on(name, subject)) for name in sets)


@dataclass(frozen=True)
class Chosen:
    """What a command line asks for: the study, the names of the runs meant, and how many run side by side."""

    study: Study
    only: frozenset[str]
    jobs: int

    @property
    def runs(self) -> list[StudyRun]:
        """The runs that are meant, in the order of the study."""
        return [run for run in self.study.runs if run.name in self.only]


def chosen_study(arguments: Sequence[str]) -> Chosen:
    """The study or sweep of ``arguments``: study=NAME or --multirun, overrides, --only NAME,NAME, --jobs N.

    Raises UserError for an unknown study, run, or option, and for a study file that is not one.
    """
    options, overrides = _split(arguments)
    names = [a.partition("=")[2] for a in overrides if a.startswith(f"{STUDY}=")]
    overrides = [a for a in overrides if not a.startswith(f"{STUDY}=")]
    if len(names) > 1 or (names and "--multirun" in options):
        raise UserError(
            "is given twice, or with a sweep", where=STUDY, fix="give one study, whose runs are in its file"
        )
    study = _of_file(names[0], overrides) if names else _of_sweep(overrides)
    jobs = options.get("--jobs", "1")
    if not jobs.isdigit() or int(jobs) < 1:
        raise UserError(f"{jobs!r} is no number of runs", where="--jobs", fix="give 1 or more, as in --jobs 2")
    return Chosen(study, _only(study, options.get("--only")), int(jobs))


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    overrides, rest = [], iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in _OPTIONS:
            options[name] = value if equals else next(rest, "")
            if not options[name]:
                raise UserError("needs a value", where=name, fix=f"{name} VALUE")
        elif argument in MULTIRUN:
            options["--multirun"] = "yes"
        else:
            overrides.append(argument)
    return options, overrides


def _only(study: Study, text: str | None) -> frozenset[str]:
    """The runs that --only means, by the name of a variant or of a run."""
    if text is None:
        return frozenset(run.name for run in study.runs)
    found: set[str] = set()
    for wanted in text.split(","):
        own = {run.name for run in study.runs if wanted in (run.name, run.variant)}
        if not own:
            known = list(dict.fromkeys(name for run in study.runs for name in (run.variant, run.name)))
            fix = nearest(wanted, known, f"choose among {', '.join(known[:12])}")
            raise UserError(f"there is no run {wanted!r} in {study.name}", where="--only", fix=fix)
        found |= own
    return frozenset(found)


def read_study(name: str) -> StudyFile:
    """conf/study/NAME.yaml, that of NEMO_COT_CONFIG_DIR, or a file by its path. Raises UserError, naming the nearest."""
    by_path = user_path(name) if name.endswith(".yaml") else None
    path = by_path or (file_of(f"{STUDY}/{name}") if re.fullmatch(r"[\w.-]+", name) else None)
    if by_path and not by_path.is_file():
        fix = "correct the path; a study by name has no .yaml"
        raise UserError("no such file", where=f"{STUDY}={name}", fix=fix)
    if path is None:
        known = [found.stem for found in files_of(STUDY)]
        here = user_path(f"{name}.yaml").is_file()
        fix = nearest(name, known, f"choose among {', '.join(known) or 'none'}.", before=f"{STUDY}=")
        fix = f"did you mean {STUDY}={name}.yaml?" if here else fix
        raise UserError(
            f"there is no study {name!r}", where=STUDY, fix=f"{fix} A file of your own: {STUDY}=PATH/NAME.yaml, or {EXTRA_CONF}=DIR with DIR/study/NAME.yaml"
        )
    try:  # OmegaConf, since it refuses a key that is there twice
        found = msgspec.convert(OmegaConf.to_container(OmegaConf.load(path), resolve=False), StudyFile)
    except (YAMLError, OmegaConfBaseException, *DAMAGED, OSError) as error:
        what = " ".join(str(error).split())
        raise UserError(f"is not a study: {what}", where=str(path), fix=f"{_EXAMPLE} (docs/studies.md)") from None
    _check(found, str(path))
    return found


_EXAMPLE = (
    "write it like {runs: {plain: [], wrong: ['curate.verdicts=[wrong]'], untrained: {overrides: [], subject: base}}, "
    "baseline: plain, repeats: {train.seed: [1, 2]}}"
)


def _check(study: StudyFile, where: str) -> None:
    if not study.runs:
        raise UserError("it has no runs", where=where, fix=_EXAMPLE)
    for name, content in {"": study.overrides, **study.runs}.items():
        if name:
            check_name(name)
        _refuse_set(content.overrides if isinstance(content, VariantFile) else content, study, where, ("name", "runs_dir"))
    if study.baseline not in study.runs:
        raise UserError(
            f"the baseline {study.baseline!r} is none of its runs", where=where, fix=f"choose among {', '.join(study.runs)}"
        )
    if unknown := [m for m in study.measures if m.rpartition(".")[2] not in COMPARED] or not study.measures:
        what = f"there is no measure {unknown[0]!r}" if isinstance(unknown, list) else "measures is empty"
        raise UserError(what, where=where, fix=f"choose among {', '.join(COMPARED)}; on a set of evaluate.sets: NAME.lenient")
    keys = [key for row in _repeats(study) for key in row]
    if wrong := next((key for key in keys if key not in SEEDS), None):
        raise UserError(f"{wrong} is no seed", where=f"{where}, repeats", fix=f"vary {', '.join(SEEDS)}")
    rows = _repeats(study)
    if len({frozenset(row) for row in rows}) > 1:
        raise UserError(
            "its combinations name different seeds", where=f"{where}, repeats", fix="give every seed in each"
        )
    if not rows or len({tuple(row.items()) for row in rows}) < len(rows):
        what = "a combination is there twice" if rows else "a seed has no values"
        raise UserError(what, where=f"{where}, repeats", fix="give each value once, as in {train.seed: [1, 2]}")


def _refuse_set(overrides: Sequence[str], study: StudyFile, where: str, own: Sequence[str]) -> None:
    """Raise UserError for an override of what the study sets itself: one of them would be ignored."""
    for text in overrides:
        key = text.partition("=")[0].lstrip("+~")
        if key in own:
            raise UserError("cannot be set: the study names its runs and their folder", where=f"{where}: {text}", fix="leave it out")
        if any(key in row for row in _repeats(study)):
            raise UserError(f"{key} is set by the study's repeats", where=f"{where}: {text}", fix="change the repeats")


def _repeats(study: StudyFile) -> list[dict[str, int]]:
    """Every combination of seeds; a single empty one without repeats."""
    if isinstance(study.repeats, list):
        return [{key: row[key] for key in SEEDS if key in row} | row for row in study.repeats] or [{}]
    ordered = {key: study.repeats[key] for key in SEEDS if key in study.repeats} | study.repeats
    return [dict(zip(ordered, values)) for values in itertools.product(*ordered.values())]


def _of_file(name: str, overrides: Sequence[str]) -> Study:
    study, name = read_study(name), Path(name).name.removesuffix(".yaml")
    check_name(name)
    _refuse_set(overrides, study, "command line", ("name",))
    given, rest = _runs_dir(overrides)
    runs_dir = f"{given}/{name}"
    if (user_path(runs_dir) / "config.yaml").exists():
        raise UserError("is the directory of a run", where=runs_dir, fix="give the study another name, or runs_dir=OTHER")
    runs: list[StudyRun] = []
    repeats = _repeats(study)
    varied = [key for key in repeats[0] if len({row[key] for row in repeats}) > 1]
    composer, of_models = Composer(), [key for key in varied if key != SAMPLING]
    for variant, content in study.runs.items():
        own = content if isinstance(content, VariantFile) else VariantFile(content)
        common, rows, idle = [*study.overrides, *own.overrides, *rest], repeats, []
        trained = own.subject.partition("@")[0] == "trained"  # every seed acts on it; asking takes as long as a plan
        if of_models and not trained and _is_one_model(composer, common, own.subject, of_models):
            idle = of_models
            rows = list({row.get(SAMPLING): row for row in repeats[::-1]}.values())[::-1]
        for row in rows:
            marks = [f"{key.partition('.')[0]}{row[key]}" for key in varied if key not in idle]
            run_name = ".".join([variant, *(["-".join(marks)] if marks else [])])
            of_row = [f"{key}={value}" for key, value in row.items()]
            placed = [*common, *of_row, f"name={run_name}", f"runs_dir={hydra_quoted(runs_dir)}"]
            seeds = {key: None if key in idle else value for key, value in row.items()}
            runs.append(StudyRun(run_name, variant, own.subject, seeds, tuple(placed)))
    # A variant that was renamed, or repeated since, has finished stages under its earlier name.
    known = {run.name for run in runs}
    left = sorted(path.parent.name for path in user_path(runs_dir).glob("*/config.yaml"))
    reused = [f"{runs_dir}/{run}" for run in left if run not in known]
    reused += [f"{given}/{run}" for run in study.reuse if (user_path(given) / run).is_dir()]
    if reused:
        more = f"reuse=[{','.join(map(hydra_quoted, reused))}]"
        runs = [
            run if any(text.startswith("reuse=") for text in run.overrides) else replace(run, overrides=(*run.overrides, more))
            for run in runs
        ]
    return Study(name, runs_dir, runs, study.title, study.baseline, study.measures)


def _is_one_model(composer: Composer, overrides: Sequence[str], subject: str, seeds: Sequence[str]) -> bool:
    """Whether none of ``seeds`` acts on what ``subject`` of a run is scored from: with each of two values the stages before
    it are the same. A config that is none is for the plan to report.
    """
    try:
        tree, found = composer.tree(overrides), []
        for value in (1, 2):
            for seed in seeds:
                OmegaConf.update(tree, seed, value)
            found += scores_of(whole_graph(to_dataclasses(tree)), subject, [""])
    except UserError:
        return False
    return None not in found and found[0] == found[1]


def _of_sweep(overrides: Sequence[str]) -> Study:
    """The runs of a sweep: NAME.KEY-VALUE for each value, beside other runs."""
    given, _ = _runs_dir(overrides)
    axes: list[list[tuple[str, str]]] = []
    for text in overrides:
        override = parse_override(text_as_typed(text))
        if not override.is_sweep_override():
            axes.append([(text, "")])
            continue
        key = override.key_or_group
        if key == "runs_dir":
            raise UserError("cannot be swept: all runs lie in one folder", where=text, fix="give one runs_dir")
        try:
            values = list(override.sweep_string_iterator())
        except Exception as error:  # glob() needs the files of a group, which only Hydra's own sweeper has
            raise UserError(f"cannot be swept: {error}", where=text, fix="list the values, as in a,b,c") from None
        named = "" if key in ("experiment", "name") else f"{key}-"
        axes.append([(f"{key}={value}", f"{named}{value}") for value in values])
    runs = [_swept(combination) for combination in itertools.product(*axes)]
    names = [run.name for run in runs]
    if not runs:
        raise UserError("a value of the sweep has no choices", where="--multirun", fix="correct it, as in range(1,4)")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError("two runs of the sweep have the same name", where=twice, fix="sweep each value once")
    return Study("sweep", given, runs)


def _swept(combination: Sequence[tuple[str, str]]) -> StudyRun:
    texts = [text for text, _ in combination]
    own = [text.partition("=")[2] for text in texts if text.partition("=")[0] == "name"]
    base = own or [text.partition("=")[2] for text in texts if text.startswith("experiment=")] or ["default"]
    marks = [
        mark for (text, mark) in combination if mark and not text.startswith(("experiment=", "name="))
    ]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", ".".join([base[-1].rpartition("/")[2].removesuffix(".yaml"), *marks]))
    rest = [text for text in texts if not text.startswith("name=")]
    return StudyRun(name, name, "trained", {}, (*rest, f"name={name}"))


def _runs_dir(overrides: Sequence[str]) -> tuple[str, list[str]]:
    """The value of runs_dir, and the other overrides."""
    values = [text.partition("=")[2].strip("'\"") for text in overrides if text.startswith("runs_dir=")]
    return (values or ["runs"])[-1] or ".", [text for text in overrides if not text.startswith("runs_dir=")]
