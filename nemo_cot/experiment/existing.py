"""An existing run: its directory and its config."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nemo_cot.config import Config, check_name
from nemo_cot.errors import UserError, nearest
from nemo_cot.experiment.compose import compose_config, explain, fill_set, missing_keys, to_dataclasses
from nemo_cot.experiment.groups import KINDS, OPEN, SETS, entries, variants_of
from nemo_cot.io.json_file import DAMAGED
from nemo_cot.io.paths import user_path
from nemo_cot.stages import RunDirectory

CONFIG_FILE = "config.yaml"
"""In the run directory: the resolved config of the last command that ran or submitted the chain."""

_FILES = {"cluster=slurm": "cluster=slurm_minimal"}
"""Kinds whose file has another name; any file of the kind will do."""


_FORMER = {
    "train.tensorboard": "train.loggers.tensorboard",
    "generate.chunk": None,
    "evaluate.chunk": None,
    "cluster.resources.convert": "cluster.resources.conversion",
}
"""Keys of runs of version 0.1.0 and before, and what they are called now; None: nothing any more."""


def find_run(overrides: Sequence[str]) -> tuple[Config, RunDirectory]:
    """The run that ``overrides`` name, and its config: that of its config.yaml, except the keys of
    ``report`` that are given; without that file, that of ``overrides``.

    Values that a chain must have need not be given. Raises UserError if there is no such run, and for an
    unreadable config.yaml: the given values may belong to another experiment.
    """
    tree = compose_config(overrides)
    run = _directory(tree)
    stored = stored_config(run.path / CONFIG_FILE)
    try:
        for key in (text.partition("=")[0] for text in overrides if stored is not None):
            if key.startswith("report."):
                OmegaConf.update(stored, key, OmegaConf.select(tree, key))
    except OmegaConfBaseException as error:
        raise explain(error, overrides) from None
    return _config(tree if stored is None else stored), run


def find_directory(overrides: Sequence[str]) -> RunDirectory:
    """The directory of the run that ``overrides`` name, regardless of its config.yaml. Raises UserError without one."""
    return _directory(compose_config(overrides))


def _directory(tree: DictConfig) -> RunDirectory:
    """Raises UserError if there is none, naming the nearest."""
    try:
        name, runs_dir = str(tree.name), str(tree.runs_dir)
    except OmegaConfBaseException as error:
        raise explain(error) from None
    check_name(name)
    run = RunDirectory(user_path(runs_dir) / name)
    if run.path.is_dir():
        return run
    parent = run.path.parent
    known = [path.name for path in parent.iterdir()] if parent.is_dir() else []
    fix = nearest(name, known, "give the name (and runs_dir=) that it was started with", before="name=")
    raise UserError("no such run", where=str(run.path), fix=fix)


def stored_config(path: Path) -> DictConfig | None:
    """``path`` with the types of this version of the code; None without that file."""
    try:
        tree = _typed(path.read_bytes().decode())
        _config(tree.copy())
        return tree
    except FileNotFoundError:
        return None
    except (UserError, OmegaConfBaseException, YAMLError, AssertionError, *DAMAGED, OSError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"damaged, or written by another version of the code ({cause})",
            where=str(path),
            fix="restore it, or take the version that wrote it; or remove it, and give what the run was started with",
        ) from None


def _typed(text: str) -> DictConfig:
    """With the types of this version of the code, and its defaults for keys that came after the run.

    Raises ValueError for a text that was cut short: ``cluster`` is the last part, and a line break the end.
    """
    plain = OmegaConf.create(text) if text.endswith("\n") else None
    if not isinstance(plain, DictConfig):
        raise ValueError("it is cut short, or holds no keys")
    found = {place: OmegaConf.select(plain, f"{place}.{key}") for place, key in KINDS.items() if not place.startswith(SETS)}
    if absent := [place for place, kind in found.items() if kind is None and place not in ("teacher.engine", "refine.engine")]:
        raise ValueError(f"it is cut short, without {', '.join(absent)}")
    for key, now in _FORMER.items():
        if (value := OmegaConf.select(plain, key)) is not None and now:
            OmegaConf.update(plain, now, value)
        parent, _, name = key.rpartition(".")
        if (group := OmegaConf.select(plain, parent)) is not None:
            group.pop(name, None)
    chosen = [f"{place}={kind}" for place, kind in found.items() if kind is not None]
    tree = compose_config([_FILES.get(choice, choice) for choice in chosen])
    for place in ("evaluate.models", SETS, "cluster.environment", "prompts", "refine.engines", *OPEN):
        if (node := OmegaConf.select(tree, place)) is not None:
            OmegaConf.set_struct(node, False)
    for name, engine in (OmegaConf.select(plain, "refine.engines") or {}).items():
        tree.refine.engines[name] = OmegaConf.structured(variants_of("refine.engine")[engine.kind])
    for key in entries(f"{SETS}.problems", plain):
        fill_set(tree, key, OmegaConf.structured(variants_of(key)[OmegaConf.select(plain, f"{key}.source")]))
        for place in (place for place in OPEN if place.startswith(f"{SETS}.problems.")):
            if (node := OmegaConf.select(tree, place.replace(f"{SETS}.problems", key))) is not None:
                OmegaConf.set_struct(node, False)
    return typing.cast(DictConfig, OmegaConf.merge(tree, plain))


def _config(tree: DictConfig) -> Config:
    """With a text in the place of each value that must be given; all of those are paths, which nobody reads."""
    try:
        for key in missing_keys(tree):
            OmegaConf.update(tree, key, "not given")
    except OmegaConfBaseException as error:
        raise explain(error) from None
    return to_dataclasses(tree)
