"""The files and folders that a config names, and what they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from typing import cast

from nemo_cot.config import Config, FileTeacher
from nemo_cot.config.rule import Found, rule
from nemo_cot.errors import UserError
from nemo_cot.evaluation.sets import HeldOut, further_sets, held_out_sets
from nemo_cot.io.paths import user_path
from nemo_cot.io.tables import table_packages
from nemo_cot.models.convert import check_hf_directory
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.problems import check_apart, check_problems, make_problems
from nemo_cot.text import TextTokenizer
from nemo_cot.traces.sources import file_traces

_WITHOUT_MODEL = {"problems", "grade", "report"}


def named_paths(cfg: Config, *, used: bool = False) -> dict[str, str]:
    """Paths by key; ``used``: those alone that a stage of the chain reads."""
    stages = set(cfg.launcher.stages)
    return {
        key: path
        for key, path, readers in _named(cfg)
        if path is not None and not (used and stages.isdisjoint(readers or stages - _WITHOUT_MODEL))
    }


def _named(cfg: Config) -> Iterator[tuple[str, str | None, tuple[str, ...]]]:
    """Key, path and the stages that read it; none for those with a tokenizer or a model."""
    for one in held_out_sets(cfg):
        for label, path in one.cfg.problems.files.items():
            yield f"{one.key}.{label}_path", path, ("problems",)
    readers = ("problems", "generate") if cfg.problems.of_traces else ("generate",)
    yield "teacher.path", cfg.teacher.named_path, readers
    for one in cfg.refine.each():
        yield f"refine.passes[{one.number - 1}].path", one.path, ("refine",)
    if cfg.model.source == "directory":
        yield "model.path", cfg.model.path, ()
    for name in sorted(set(cfg.evaluate.subjects) & cfg.evaluate.models.keys()):
        yield f"evaluate.models.{name}.path", cfg.evaluate.models[name].path, ("evaluate",)
    for name in cfg.evaluate.subjects:
        if examples := cfg.evaluate.examples_of(name):
            yield f"{cfg.evaluate.examples_key(name)}.file", examples.file, ("evaluate",)


@rule("problems", "convert", "generate", "refine", "evaluate", always=True)
def inputs_exist(cfg: Config, _: Estimate) -> Found:
    """Every file and folder that the config names is there."""
    for key, path in named_paths(cfg).items():
        if not user_path(path).exists():
            holds = f" ({cfg.problems.holds})" if "problems" in key else ""
            yield "error", f"{key}: there is no {path}", f"correct {key}{holds}"


@rule()  # the stages read it themselves
def inputs_hold(cfg: Config, _: Estimate) -> Found:
    """Problem files, traces and model directories hold what the stages read."""
    named = named_paths(cfg, used=True)
    there = {key: path for key, path in named.items() if user_path(path).exists()}
    if missing := sorted(named.keys() - there.keys()):
        yield "unknown", f"what is not there was not read: {', '.join(missing)}", ""
    for check in _checks(cfg, there):
        try:
            check()
        except UserError as error:
            yield "error", f"{error.where}: {error.what}", error.fix
        except OSError as error:
            yield "error", f"{error.filename}: {error.strerror}", "make it readable"


def _checks(cfg: Config, there: dict[str, str]) -> Iterator[Callable[[], object]]:
    """By the same readers as the stages'."""
    own, *further = (_readable(one, there) for one in held_out_sets(cfg))
    of_traces = "teacher.path" in there or not cfg.problems.of_traces
    readable = own and of_traces and all(map(find_spec, trace_packages(cfg)))
    if readable:
        in_files = cfg.problems.files or cfg.problems.of_traces
        yield lambda: make_problems(cfg.problems, cfg.teacher) if in_files else check_problems(cfg.problems)
    for one, there_too in zip(further_sets(cfg), further):
        if there_too and readable:
            yield partial(_check_set, cfg, one)
    for key, path in there.items():
        is_teacher = key == "teacher.path" and cfg.teacher.by_model
        is_other = key.startswith(("evaluate.models.", "refine.")) and key.endswith(".path")
        if is_teacher or is_other or key == "model.path":
            yield partial(check_hf_directory, user_path(path), key=key)
    if cfg.teacher.traces and "teacher.path" in there and readable:
        yield partial(_read_traces, cfg, cfg.teacher.traces)


def _readable(one: HeldOut, there: Mapping[str, str]) -> bool:
    """Whether the problems can be made here: of a package that is not installed the rule packages_installed says so."""
    problems = one.cfg.problems
    return all(f"{one.key}.{label}_path" in there for label in problems.files) and all(map(find_spec, problems.packages))


def _check_set(cfg: Config, one: HeldOut) -> None:
    """As the stage reads it. Raises UserError."""
    heldout = make_problems(one.cfg.problems).heldout
    check_apart(make_problems(cfg.problems, cfg.teacher).train, heldout, of=f" of {one.name}")


def trace_packages(cfg: Config) -> dict[str, str]:
    """The modules that reading the teacher's file imports, with what pip installs; none if no stage reads it."""
    teacher, used = cfg.teacher.traces, named_paths(cfg, used=True)
    if teacher is None or "teacher.path" not in used:
        return {}
    return table_packages(user_path(teacher.path), teacher.format, teacher.split)


class _Uncounted:
    """Stands in for the student's tokenizer, which may not be there yet: traces are read, not counted."""

    def answer_ids(self, answer: str) -> list[int]:
        return []


def _read_traces(cfg: Config, teacher: FileTeacher) -> None:
    """As generate reads them. Raises UserError naming the line."""
    try:
        problems = make_problems(cfg.problems, teacher).train
    except UserError:
        return  # said of the problems themselves
    uncounted = cast(TextTokenizer, _Uncounted())
    for _ in file_traces(user_path(teacher.path), problems, uncounted, teacher, Counter()):
        pass


INPUT_RULES = (inputs_exist, inputs_hold)
