"""What safetensors files hold, out of their headers: no torch, no copy of the weights.

Format: 8 bytes of length, a JSON header of that length, then the tensors' bytes, one behind the other
(https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec

from nemo_cot.errors import UserError

INDEX = "model.safetensors.index.json"
_MOST_HEADER_BYTES = 100_000_000  # the format's own limit
_BITS = re.compile(r"(?:BF|[FIUC])(\d+)(?:_E\d\w+)?|BOOL")
"""Names of element types, with their bits; a BOOL takes 8."""

T = TypeVar("T")
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Tensor(NamedTuple):
    """Where one tensor lies. ``dtype`` is safetensors' name (BF16, F32); start and end are bytes of the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class _Entry(msgspec.Struct):
    """A tensor's entry in a header; the offsets count from the header's end."""

    dtype: str
    shape: tuple[_Count, ...]
    data_offsets: tuple[_Count, _Count]


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def read_json(path: Path, kind: type[T] = dict[str, Any], *, fix: str = "copy it again") -> T:
    """The JSON file ``path`` as ``kind``. Raises UserError for one that is damaged or of another shape; OSError as the file system does."""
    content = path.read_bytes()
    try:
        return msgspec.convert(json.loads(content), kind)
    except (ValueError, RecursionError) as error:
        raise UserError(f"unreadable ({error})", where=str(path), fix=fix) from None


def weight_map(folder: Path) -> dict[str, str] | None:
    """The file's name by the tensor's, of the index that goes with several files; None without an index.

    Raises UserError for a damaged index, one that names no file of this folder, and a file that is not there.
    """
    if not (folder / INDEX).is_file():
        return None
    places = read_json(folder / INDEX, _Index, fix="copy or convert the model again").weight_map
    for name in sorted(set(places.values())):
        if Path(name).name != name or not (folder / name).is_file():
            raise UserError(
                f"there is no {name}, which {INDEX} names", where=str(folder), fix="copy or convert it again"
            )
    return places


def tensor_index(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a Hugging Face directory by name: of the files that its index names, or of all without one.

    Raises UserError for a directory without weights, a damaged file, and a name that occurs twice.
    """
    places = weight_map(folder)
    files = sorted(folder.glob("*.safetensors") if places is None else {folder / n for n in places.values()})
    found: dict[str, Tensor] = {}
    for path in files:
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
    """The tensors of one file, which they must fill without a gap, as the safetensors library asks."""
    with open(path, "rb") as handle:
        start = handle.read(8)
        size = int.from_bytes(start, "little")
        content = handle.read(min(size, _MOST_HEADER_BYTES))
    try:
        if len(start) < 8 or len(content) < size:
            raise ValueError(f"{path.stat().st_size:,} bytes, a header of {size:,}")
        header = dict(json.loads(content))
        header.pop("__metadata__", None)
        entries = msgspec.convert(header, dict[str, _Entry])
        end = 8 + size
        tensors = {}
        for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
            start, end = end, end + math.prod(entry.shape) * _bits(entry.dtype) // 8
            if tuple(8 + size + offset for offset in entry.data_offsets) != (start, end):
                raise ValueError(f"{name} is not where its shape says")
            tensors[name] = Tensor(path, entry.dtype, entry.shape, start, end)
        if end != path.stat().st_size:
            raise ValueError(f"{path.stat().st_size:,} bytes, its header says {end:,}")
        return tensors
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"damaged weights ({error})", where=str(path), fix="copy or convert it again"
        ) from None


def _bits(dtype: str) -> int:
    if (found := _BITS.fullmatch(dtype)) is None:
        raise ValueError(f"an element type {dtype}")
    return int(found[1] or 8)


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
