"""The container image of a run: its identity and its digest.

An image cannot hold its own digest, which exists only once it is pushed, so whoever starts the
container passes it in :data:`DIGEST`. What is known at build time is in a file in the image.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.io.json_file import DAMAGED, write_json

DIGEST = "NEMO_COT_IMAGE_DIGEST"
"""Environment variable: sha256:HEX, or NAME@sha256:HEX."""
HOME = "NEMO_COT_IMAGE_HOME"
"""Environment variable: the folder of an image's files, if not /opt/nemo-cot (tests)."""

_DIGEST = re.compile(r"(?:[A-Za-z0-9][\w./:-]*@)?sha256:[0-9a-f]{64}")


class Identity(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Written by the build; "unknown" for arguments that it was not given.

    target: the stage of the Dockerfile. base: the base image. revision: the git commit, with -dirty
    appended if there were uncommitted changes. source: the code's address. build_id: that of the CI.
    """

    target: str
    base: str
    version: str
    revision: str
    source: str
    build_id: str


def image_home() -> Path:
    """The folder of image.json, promised/, src/ and venv/ in an image."""
    return Path(os.environ.get(HOME, "/opt/nemo-cot"))


def image_identity() -> Identity | None:
    """The content of image.json; None outside an image. Raises UserError for a damaged file."""
    path = image_home() / "image.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DAMAGED as error:
        raise UserError(f"not an image's identity ({error})", where=str(path), fix="build it again") from None


def write_identity(identity: Identity) -> Path:
    """Write image.json; returns its path."""
    path = image_home() / "image.json"
    write_json(path, identity)
    return path


def image_digest() -> str | None:
    """The value of :data:`DIGEST`; None if unset. Raises UserError if it is not a digest."""
    value = os.environ.get(DIGEST, "")
    if value and not _DIGEST.fullmatch(value):
        raise UserError(
            f"{value[:100]!r} is not an image's digest",
            where=DIGEST,
            fix="give sha256: and 64 hexadecimal digits, as `docker buildx imagetools inspect` prints them, "
            f"or unset {DIGEST}",
        )
    return value or None


def image_record() -> dict[str, str] | None:
    """Digest and identity for a manifest; None without either. Raises UserError as the two functions above."""
    identity, digest = image_identity(), image_digest()
    if identity is None and digest is None:
        return None
    record = {} if identity is None else msgspec.to_builtins(identity)
    return {"digest": digest or "unknown", **record}
