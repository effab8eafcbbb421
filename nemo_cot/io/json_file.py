"""One JSON value per file, checked against its type."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.io.atomic import write_bytes

T = TypeVar("T")
DAMAGED = (ValueError, RecursionError)
"""What decoding raises: the errors of msgspec and of json are ValueErrors, as is text that is not UTF-8."""


def read_json(path: Path, value_type: type[T], *, fix: str) -> T | None:
    """The value in ``path``; None without such a file. Raises UserError, with ``fix``, for anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=value_type)
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        raise UserError(
            f"damaged, or not what this version of the code writes ({error})", where=str(path), fix=fix
        ) from None


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` atomically, for people to read."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value)) + b"\n")
