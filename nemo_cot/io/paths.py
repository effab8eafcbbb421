"""Paths as users write them, and listings of folders that other processes are changing."""

from __future__ import annotations

import contextlib
import glob
import os
from pathlib import Path

from nemo_cot.errors import UserError

CHAIN_FILE = "chain.json"
"""In the run directory, written by every launcher: how each recipe of the last chain ended."""


def user_path(text: str) -> Path:
    """``text`` as a path, with a leading ~ expanded. Relative paths stay relative to the command.

    Raises UserError for the home of a user who does not exist.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError("there is no such user, or no home", where=text, fix="correct the path") from None


def real_path(path: Path) -> Path:
    """``path`` without links; one that leads to itself stays, where Path.resolve raises RuntimeError."""
    return Path(os.path.realpath(path))


def matches(folder: Path, pattern: str) -> list[Path]:
    """Entries below ``folder`` that match ``pattern``, not sorted; none in a folder that is being deleted,
    where Path.glob and Path.rglob raise FileNotFoundError (Python 3.10 to 3.12).
    """
    return [folder / name for name in glob.glob(pattern, root_dir=folder)]


def num_bytes_below(folder: Path) -> int:
    """Bytes of all files below ``folder``; links are not followed, files deleted meanwhile do not count."""
    num_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                num_bytes += os.lstat(os.path.join(parent, name)).st_size
    return num_bytes
