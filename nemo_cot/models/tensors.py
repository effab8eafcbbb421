"""What safetensors files hold, out of their headers: no torch, no copy of the weights.

Format: 8 bytes of length, a JSON header of that length, then the tensors' bytes
(https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import NamedTuple

from nemo_cot.errors import UserError

_MOST_HEADER_BYTES = 100_000_000  # the format's own limit


class Tensor(NamedTuple):
    """Where one tensor lies. ``dtype`` is safetensors' name (BF16, F32); start and end are bytes of the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def tensor_index(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a Hugging Face directory by name.

    Raises UserError for a directory without weights, a damaged file, and a name that occurs twice.
    """
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in _read(path).items():
            if name in found:
                raise UserError(
                    f"{name} is in {found[name].file.name} too", where=str(path), fix="convert it again"
                )
            found[name] = tensor
    if not found:
        raise UserError("no *.safetensors weights", where=str(folder), fix="give a Hugging Face directory")
    return found


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with open(path, "rb") as handle:
            (size,) = struct.unpack("<Q", handle.read(8))
            if size > _MOST_HEADER_BYTES:
                raise ValueError(f"a header of {size} bytes")
            header = json.loads(handle.read(size))
        header.pop("__metadata__", None)
        tensors = {
            name: Tensor(
                path, e["dtype"], tuple(e["shape"]), *(8 + size + offset for offset in e["data_offsets"])
            )
            for name, e in header.items()
        }
        if max((t.end for t in tensors.values()), default=0) != path.stat().st_size:
            raise ValueError("it does not end where its header says")
        return tensors
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise UserError(
            f"damaged weights ({error})", where=str(path), fix="copy or convert it again"
        ) from None


def same_bytes(one: Tensor, other: Tensor, block: int = 1 << 22) -> bool:
    """Whether two tensors hold the same bytes of the same type."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    with open(one.file, "rb") as a, open(other.file, "rb") as b:
        a.seek(one.start), b.seek(other.start)
        left = one.end - one.start
        while left:
            size = min(block, left)
            if a.read(size) != b.read(size):
                return False
            left -= size
    return True
