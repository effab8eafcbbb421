"""The directory of a config's run, and those of the runs that it reuses."""

from __future__ import annotations

import os
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.io.paths import user_path
from nemo_cot.stages import RunDirectory


def run_directory(cfg: Config) -> RunDirectory:
    """The directory of this experiment's run; it need not exist."""
    return RunDirectory(user_path(cfg.runs_dir) / cfg.name, reuse=reused_runs(cfg).values())


def reused_runs(cfg: Config) -> dict[str, Path]:
    """The directories that `reuse` names, by its entries; they need not exist."""
    return {entry: _directory(entry, cfg) for entry in cfg.reuse}


def _directory(entry: str, cfg: Config) -> Path:
    """A plain name is a run beside this one, anything else a path."""
    plain = "/" not in entry and not entry.startswith(("~", "."))
    directory = user_path(cfg.runs_dir) / entry if plain else user_path(entry)
    return Path(os.path.realpath(directory))  # Path.resolve raises RuntimeError for some links
