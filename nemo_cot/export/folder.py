"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.io.atomic import sync_tree, umask


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``target``; on success it becomes ``target``, else it is removed.

    Raises UserError where ``target`` is already, but for an empty folder, or cannot be.
    """
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise UserError(
            "is there already, and is not overwritten", where=str(target), fix="name a new folder"
        )
    if not target.parent.is_dir():
        raise UserError(
            "its directory does not exist", where=str(target), fix="name a folder in one that exists"
        )
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name[:50]}.", dir=target.parent))
    try:
        folder.chmod(0o777 & ~umask())
        yield folder
        sync_tree(folder)
        os.rename(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
