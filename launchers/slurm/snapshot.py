"""A copy of the code in the run directory: jobs that start hours later run what was submitted."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import nemo_cot
from nemo_cot.errors import UserError, one_line
from nemo_cot.io.json_file import write_json
from nemo_cot.provenance import REVISION, code_revision

ROOT = nemo_cot.ROOT.parent
CODE = "code"
EXTRA = "extra_conf"
"""Folder in a snapshot with a copy of NEMO_COT_CONFIG_DIR."""
MOST_BYTES = 200 << 20


def snapshot(run: Path, *, runs_dir: Path, extra_conf: Path | None = None, root: Path = ROOT) -> Path:
    """Copy the code below ``root`` (the commit with its uncommitted changes, and new files that git
    does not ignore) to ``run``/code/DIGEST, unless it is there; returns that folder.

    What lies in ``runs_dir`` is left out, and so are dotenv files, which hold secrets. Raises UserError above :data:`MOST_BYTES`.
    """
    files = {path.relative_to(root).as_posix(): path for path in _sources(root, runs_dir)}
    if extra_conf is not None:
        files |= {
            f"{EXTRA}/{path.relative_to(extra_conf).as_posix()}": path for path in extra_conf.rglob("*.yaml")
        }
    _check_size(files)
    digest = _digest(files)
    target = run / CODE / digest[:16]
    if not target.is_dir():
        _copy(files, target, {**code_revision(root), "snapshot": digest})
    return target


def _sources(root: Path, runs_dir: Path) -> list[Path]:
    names = _git_files(root)
    paths = _package_files(root) if names is None else [root / name for name in names]
    found = [p for p in paths if (p.is_file() or _is_link(p)) and not p.is_relative_to(runs_dir)]
    secret = [p for p in found if p.name in (".env", ".envrc") or p.name.startswith(".env.")]
    for path in secret:
        print(one_line(f"left out of the copy of the code, as secrets: {path.relative_to(root)}"), flush=True)
    return [p for p in found if p not in secret]


def _git_files(root: Path) -> list[str] | None:
    """Tracked files and untracked ones that are not ignored; None where ``root`` is no checkout of its own."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return sorted({os.fsdecode(name) for name in done.stdout.split(b"\0") if name})


def _package_files(root: Path) -> Iterable[Path]:
    """An installed package, or an unpacked archive: the package, and the folders that it links to."""
    package = root / "nemo_cot"
    links = [path for path in package.iterdir() if path.is_symlink()]
    for folder in (package, *(link.resolve() for link in links)):
        yield from (p for p in folder.rglob("*") if "__pycache__" not in p.parts)


def _is_link(path: Path) -> bool:
    """Whether it stands for a folder, such as nemo_cot/recipes, whose files are copied as well; links to files
    are read through.
    """
    return path.is_symlink() and path.is_dir()


def _check_size(files: dict[str, Path]) -> None:
    sizes = {name: len(_content(path)) if _is_link(path) else path.stat().st_size for name, path in files.items()}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise UserError(
            f"the code to copy has {sum(sizes.values()) >> 20} MiB, above {MOST_BYTES >> 20}; the largest "
            f"file is {largest}, with {sizes[largest] >> 20}",
            where="snapshot of the code",
            fix="move data out of the checkout, or name it in .gitignore",
        )


def _digest(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        content = hashlib.sha256(_content(path)).hexdigest()
        digest.update(os.fsencode(f"{content} {name}") + b"\0")
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    """Of a link its target: nemo_cot/recipes and the like lead to folders of the copy itself."""
    return os.fsencode(os.readlink(path)) if _is_link(path) else path.read_bytes()


def _copy(files: dict[str, Path], target: Path, revision: dict) -> None:
    """By a rename at the end, so that a cut copy is never taken for a whole one."""
    temporary = target.with_name(target.name + f".{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for name, path in files.items():
        (temporary / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, temporary / name, follow_symlinks=not _is_link(path))
    write_json(temporary / REVISION, revision)
    os.rename(temporary, target)
