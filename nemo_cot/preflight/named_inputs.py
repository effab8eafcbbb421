"""The files and folders that a config names, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from nemo_cot.config import OWN_SUBJECTS, ChainSumProblems, Config, FileProblems, FileTeacher, ModelTeacher
from nemo_cot.errors import UserError
from nemo_cot.io.paths import user_path
from nemo_cot.models.convert import check_hf_directory
from nemo_cot.preflight.estimate import Estimate
from nemo_cot.problems import make_problems
from nemo_cot.stages.manifest import count_rows

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
    if isinstance(cfg.problems, FileProblems):
        yield "problems.train_path", cfg.problems.train_path, ("problems",)
        yield "problems.heldout_path", cfg.problems.heldout_path, ("problems",)
    if isinstance(cfg.teacher, (FileTeacher, ModelTeacher)):
        yield "teacher.path", cfg.teacher.path, ("generate",)
    if cfg.model.source == "directory":
        yield "model.path", cfg.model.path, ()
    for name in sorted(set(cfg.evaluate.subjects) - set(OWN_SUBJECTS)):
        yield f"evaluate.models.{name}.path", cfg.evaluate.models[name].path, ("evaluate",)


def num_problems(cfg: Config) -> int | None:
    """Training problems; None where a file is not there."""
    if isinstance(cfg.problems, ChainSumProblems):
        return cfg.problems.num_train
    path = user_path(cfg.problems.train_path) if isinstance(cfg.problems, FileProblems) else None
    return count_rows(path) if path and path.is_file() else None


def _inputs_exist(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """Every file and folder that the config names is there."""
    for key, path in named_paths(cfg).items():
        if not user_path(path).exists():
            holds = " (JSON lines with the keys problem and expected_answer)" if "problems" in key else ""
            yield "error", f"{key}: there is no {path}", f"correct {key}{holds}"


def _inputs_hold(cfg: Config, _: Estimate) -> Iterator[tuple[str, str, str]]:
    """Problem files and model directories hold what the stages read."""
    there = {key: path for key, path in named_paths(cfg, used=True).items() if user_path(path).exists()}
    for check in _checks(cfg, there):
        try:
            check()
        except UserError as error:
            yield "error", f"{error.where}: {error.what}", error.fix
        except OSError as error:
            yield "error", f"{error.filename}: {error.strerror}", "make it readable"


def _checks(cfg: Config, there: dict[str, str]) -> Iterator[Callable[[], object]]:
    """By the same readers as the stages'."""
    if {"problems.train_path", "problems.heldout_path"} <= there.keys():
        yield lambda: make_problems(cfg.problems)
    for key, path in there.items():
        is_teacher = key == "teacher.path" and isinstance(cfg.teacher, ModelTeacher)
        if is_teacher or key == "model.path" or key.startswith("evaluate.models."):
            yield partial(check_hf_directory, user_path(path), key=key)


INPUT_RULES = (_inputs_exist, _inputs_hold)
