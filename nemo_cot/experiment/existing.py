"""A run that is there already: where it lies, and what it was started with."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from nemo_cot.config import Config, check_name
from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.compose import compose_config, explain, to_dataclasses
from nemo_cot.stages import RunDirectory

CONFIG_FILE = "config.yaml"
"""In the run directory: the resolved config of the last command that ran or submitted the chain."""

_KINDS = {
    "problems": "source",
    "teacher": "kind",
    "train": "backend",
    "cluster": "scheduler",
    "teacher.engine": "kind",
    "evaluate.engine": "kind",
}
"""The key that says which file of a config group a part of config.yaml was made with."""
_FILES = {"cluster=slurm": "cluster=slurm_minimal"}
"""Where the file has another name than its kind; any file of the kind will do."""


def find_run(overrides: Sequence[str]) -> tuple[Config, RunDirectory]:
    """The run that ``overrides`` name, and its config: that of its own config.yaml, but for the keys of
    ``report`` that are given; without that file, what ``overrides`` say.

    Values that a chain must have need not be given. Raises UserError when there is no such run.
    """
    tree = compose_config(overrides)
    try:
        run = _run_directory(str(tree.name), str(tree.runs_dir))
    except OmegaConfBaseException as error:
        raise explain(error) from None
    given = [key for key, _, _ in (text.partition("=") for text in overrides) if key.startswith("report.")]
    stored = _stored(run.path / CONFIG_FILE, {key: OmegaConf.select(tree, key) for key in given})
    return stored or _config(tree), run


def _run_directory(name: str, runs_dir: str) -> RunDirectory:
    """Raises UserError when there is none, naming one with nearly that name."""
    check_name(name)
    run = RunDirectory(Path(runs_dir).expanduser() / name)
    if run.path.is_dir():
        return run
    parent = run.path.parent
    near = difflib.get_close_matches(name, [p.name for p in parent.iterdir()] if parent.is_dir() else [], n=1)
    raise UserError(
        "no such run",
        where=str(run.path),
        fix=f"did you mean name={near[0]}?"
        if near
        else "give the name= and runs_dir= that it was started with",
    )


def _stored(path: Path, given: dict[str, object]) -> Config | None:
    """``path``, with the values of ``given`` by key; None without that file. One that this version of
    the code cannot read is named, and passed over.
    """
    if not path.is_file():
        return None
    try:
        tree = _typed(OmegaConf.load(path))
        for key, value in given.items():
            OmegaConf.update(tree, key, value)
        return _config(tree)
    except (UserError, OmegaConfBaseException, YAMLError, KeyError, ValueError, OSError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(one_line(f"warning: {path} cannot be read ({cause}); going by what is given here"), flush=True)
        return None


def _typed(plain: DictConfig) -> DictConfig:
    """With the types of this version of the code, and its defaults for keys that came after the run."""
    found = {place: OmegaConf.select(plain, f"{place}.{key}") for place, key in _KINDS.items()}
    if found["train"] is None:
        raise ValueError("it is empty")
    chosen = [f"{place}={kind}" for place, kind in found.items() if kind is not None]
    tree = compose_config([_FILES.get(choice, choice) for choice in chosen])
    for place in ("evaluate.models", "cluster.environment"):  # whose keys are the user's
        if (node := OmegaConf.select(tree, place)) is not None:
            OmegaConf.set_struct(node, False)
    return OmegaConf.merge(tree, plain)


def _config(tree: DictConfig) -> Config:
    """With a text in the place of each value that must be given; all of those are paths, which nobody reads."""
    try:
        for key in _missing(OmegaConf.to_container(tree), ""):
            OmegaConf.update(tree, key, "not given")
    except OmegaConfBaseException as error:
        raise explain(error) from None
    return to_dataclasses(tree)


def _missing(plain: Any, prefix: str) -> Iterator[str]:
    """Keys without a value. OmegaConf.missing_keys would stop at one that is another's ${value}."""
    for key, value in plain.items() if isinstance(plain, dict) else ():
        if value == MISSING:
            yield f"{prefix}{key}"
        yield from _missing(value, f"{prefix}{key}.")
