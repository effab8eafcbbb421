"""manifest.json: what a finished stage read and wrote, and how it was run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.io.hashing import Hasher
from nemo_cot.io.json_file import DAMAGED, write_json
from nemo_cot.io.jsonl import count_lines

MANIFEST = "manifest.json"


class Artifact(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One input or output: a file or a folder. ``rows`` is given for JSON lines only.

    ``listed``: sha256 covers a folder's names and sizes, not the contents of its files. ``part``: an input
    recorded for provenance only, outside the fingerprint, such as the chunks that were merged.
    """

    path: str
    sha256: str
    num_bytes: int
    rows: int | None = None
    listed: bool = False
    part: bool = False


class Manifest(msgspec.Struct, kw_only=True):
    """Written last, so its presence means that the stage is complete.

    ``config`` decides the result, ``settings`` do not. ``finished_at`` is UTC, ISO 8601;
    ``wall_seconds`` is that of the last of ``attempts``. ``image``: the container's digest and identity, None
    outside a container (:func:`nemo_cot.image.image_record`). ``reused_from``: the directory of the run that
    did the work; apart from ``inputs`` the rest is what that run recorded. ``earlier``: the result from which a
    part of the rows was taken, and what made it (:func:`earlier_record`).
    """

    stage: str
    stage_version: int
    fingerprint: str
    config: dict[str, Any]
    settings: dict[str, Any]
    inputs: dict[str, Artifact]
    outputs: dict[str, Artifact]
    seeds: dict[str, int]
    code: dict[str, Any]
    packages: dict[str, str]
    hardware: dict[str, Any]
    finished_at: str
    wall_seconds: float
    attempts: int
    image: dict[str, str] | None = None  # manifests of version 0.1.0 and before have none
    reused_from: str | None = None
    earlier: dict[str, Any] | None = None


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in ``folder``, None without one. Raises UserError for a damaged one."""
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        raise UserError(
            f"damaged manifest ({error})", where=str(path), fix=f"remove {path}; the stage runs again"
        ) from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it, indented for readers, atomically."""
    write_json(folder / MANIFEST, manifest)


def describe(path: Path, base: Path, hasher: Hasher, *, listed: bool = False, part: bool = False) -> Artifact:
    """Hash and measure ``path``; its path is relative to ``base`` if it lies below it."""
    inside = path.is_relative_to(base)
    return Artifact(
        path=path.relative_to(base).as_posix() if inside else str(path),
        sha256=hasher.listing(path) if listed else hasher.sha256(path),
        num_bytes=_num_bytes(path),
        rows=count_lines(path) if path.suffix == ".jsonl" else None,
        listed=listed,
        part=part,
    )


def fingerprint_of(stage: str, version: int, config: dict[str, Any], inputs: dict[str, str]) -> str:
    """Hex digest of everything that decides a stage's result: its config and its inputs' digests, by label."""
    content = {"stage": stage, "version": version, "config": config, "inputs": inputs}
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()


def earlier_record(folder: Path, there: Manifest, key: str) -> dict[str, Any]:
    """What a manifest keeps of the result in ``folder``, of which rows were taken: the value of ``key``, what it
    held, and when and with what it was made. It may be replaced by then, so nothing here needs the folder.
    """
    made = {name: getattr(there, name) for name in ("code", "packages", "hardware", "image", "finished_at", "earlier")}
    outputs = {name: {"sha256": output.sha256, "rows": output.rows} for name, output in there.outputs.items()}
    return {
        "folder": str(folder), "fingerprint": there.fingerprint, key: flatten(there.config)[key], "outputs": outputs,
        **{name: value for name, value in made.items() if value is not None},
    }  # fmt: skip


def with_value(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """``config`` with another value of the dotted ``key``."""
    first, _, rest = key.partition(".")
    return {**config, first: with_value(config[first], rest, value) if rest else value}


def changes(old: Manifest, config: dict[str, Any], inputs: dict[str, str], version: int) -> list[str]:
    """Differences from ``old``, one line each: config keys with both values, inputs by label."""
    before, after = flatten(old.config), flatten(config)
    lines = [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    old_inputs = {label: artifact.sha256 for label, artifact in old.inputs.items() if not artifact.part}
    lines += [
        f"input {label} changed"
        for label in sorted(old_inputs.keys() | inputs.keys())
        if old_inputs.get(label) != inputs.get(label)
    ]
    if old.stage_version != version:
        lines.append(f"stage version {old.stage_version} -> {version}")
    return lines


def damaged(manifest: Manifest, folder: Path, hasher: Hasher) -> list[str]:
    """The outputs in ``folder`` that are missing or differ from ``manifest``."""

    def intact(artifact: Artifact) -> bool:
        path = folder / artifact.path
        digest = hasher.listing if artifact.listed else hasher.sha256
        return path.exists() and digest(path) == artifact.sha256

    return [name for name, artifact in manifest.outputs.items() if not intact(artifact)]


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as dotted keys."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _num_bytes(path: Path) -> int:
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size
