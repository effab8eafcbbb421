"""Reuse a finished stage of another run: its files are hard-linked, or copied where that is impossible.

Hard links are safe because every change of a finished stage is a rename: changes in one run never show in
the other, and either run can be removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from nemo_cot.errors import UserError
from nemo_cot.io.atomic import sync_tree
from nemo_cot.io.hashing import Hasher
from nemo_cot.stages.manifest import Artifact, damaged, read_manifest, write_manifest
from nemo_cot.stages.publish import Attempt, publish, write_attempt
from nemo_cot.stages.rundir import RunDirectory

_TAKEN = "reused"
"""Stands for the fingerprint in the name of the folder in which a reused stage is assembled."""


def other_with(
    name: str, run: RunDirectory, fingerprint: str, hasher: Hasher
) -> tuple[RunDirectory | None, list[str]]:
    """The first of the other runs that has the stage ``name`` complete, and notes for the user."""
    notes = []
    for other in run.reuse:
        try:
            there = read_manifest(other.stage(name))
            if there is None or there.fingerprint != fingerprint:
                continue
            bad = damaged(there, other.stage(name), hasher)
        except (UserError, FileNotFoundError):  # damaged, or being replaced
            bad = ["the manifest or a file"]
        if not bad:
            return other, [f"from {other.path.name}, unchanged since {there.finished_at}"]
        notes.append(f"not reused from {other.path.name}, where {bad[0]} is missing or was changed")
    return None, notes


def reuse_from(
    name: str,
    fingerprint: str,
    run: RunDirectory,
    other: RunDirectory,
    inputs: dict[str, Artifact],
    hasher: Hasher,
) -> bool:
    """Link or copy the stage ``name`` of ``other``, check it, and publish it as one of ``run`` with ``inputs``.

    A kill leaves the old stage or the new one. False, with nothing published, where ``other`` does not
    have it any more. Raises OSError as the file system does.
    """
    source, folder = other.stage(name), run.partial(name, _TAKEN)
    manifest = read_manifest(source)
    if manifest is None or manifest.fingerprint != fingerprint:
        return False
    if any(Path(output).name != output for output in manifest.outputs):
        return False  # never written by a stage: links must stay below the new folder
    if not _link_outputs(source, manifest.outputs, folder, hasher) or damaged(manifest, folder, hasher):
        return False
    parts = {label: part for label, part in manifest.inputs.items() if part.part}
    for part in parts.values():
        part.path = str(other.path / part.path)
    manifest.inputs, manifest.reused_from = {**inputs, **parts}, str(other.path)
    write_attempt(folder, Attempt(fingerprint, manifest.attempts))
    sync_tree(folder)
    write_manifest(folder, manifest)
    publish(run, name, folder)
    hasher.moved(folder, run.stage(name))
    return True


def _link_outputs(source: Path, names: Iterable[str], target: Path, hasher: Hasher) -> bool:
    """Put the files and folders ``names`` of ``source`` into the new folder ``target``.

    False if the stage was replaced meanwhile, so that its files may be mixed. Raises OSError as the
    file system does.
    """
    shutil.rmtree(target, ignore_errors=True)
    try:
        before = source.stat()
        target.mkdir(parents=True)
        for name in names:
            _link_tree(source / name, target / name, hasher)
        return os.path.samestat(before, source.stat())
    except FileNotFoundError:
        return False
    except OSError:  # a full disk: no partial copy must stay
        shutil.rmtree(target, ignore_errors=True)
        raise


def _link_tree(source: Path, target: Path, hasher: Hasher) -> None:
    if source.is_symlink() or not source.is_dir():
        _link(source, target, hasher)
        return
    target.mkdir()
    for entry in sorted(source.iterdir()):
        _link_tree(entry, target / entry.name, hasher)


def _link(source: Path, target: Path, hasher: Hasher) -> None:
    """A hard link if the file system and permissions allow it, else a copy (other devices, other users' files)."""
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
        return
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
    else:
        hasher.same_file(source, target)
