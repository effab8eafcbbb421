"""Write and read .npy files of dictionaries, row by row and without running their code.

NumPy stores an array of Python objects as a header and one pickle of it all, which ``np.save`` makes
of rows that are all in memory; :func:`write_object_array` pickles rows as they come. A pickle can run
any code when it is loaded: :func:`read_object_array` builds nothing but numbers, lists, dictionaries
and flat arrays.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from types import GeneratorType
from typing import IO, Any

import numpy as np

from nemo_cot.errors import UserError

# Public names, which every NumPy has: np.save of NumPy 2 writes numpy._core, which NumPy 1.25 cannot load.
_REDUCED = {
    np.ndarray: lambda array: (np.frombuffer, (array.tobytes(), array.dtype.str)),
    GeneratorType: lambda rows: (list, (), None, rows),
}


class _Rows:
    """Pickles as the object array of ``rows``, one after another."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self.rows = (row for row in rows)

    def __reduce__(self) -> tuple:
        return np.array, (self.rows, "O")


def write_object_array(
    handle: IO[bytes], rows: Iterable[dict[str, Any]], count: int, *, recurring: bool
) -> None:
    """Write ``count`` dictionaries of flat arrays and int lists to ``handle``, as ``np.load`` reads them.

    recurring: store an array that is one object in several rows once, for the reader too, and keep
    every array until the end. Otherwise nothing that was written is kept.
    """
    np.lib.format.write_array_header_1_0(handle, {"descr": "|O", "fortran_order": False, "shape": (count,)})
    pickler = pickle.Pickler(handle, protocol=4)
    pickler.fast = not recurring  # no memo
    pickler.dispatch_table = _REDUCED
    pickler.dump(_Rows(rows))


def read_object_array(path: Any) -> list[Any]:
    """The rows of a .npy file of Python objects: numbers, text, lists, dictionaries, flat arrays.

    Arrays come back read-only. Raises UserError when the file is not one, is cut short, or names
    anything else to be built (loading such a file with ``np.load`` would run its code).
    """
    try:
        with open(path, "rb") as handle:
            rows = _header_rows(handle)
            loaded = _SafeUnpickler(handle).load()
            values = loaded.value if isinstance(loaded, _Array) else None
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), fix="check the path") from None
    except UserError as error:
        raise UserError(error.what, where=str(path), fix=error.fix) from None
    except Exception as error:
        # Broken pickles raise nearly anything; none of it is the user's to read as a traceback.
        raise _unreadable(path, error) from None
    if not isinstance(values, list) or len(values) != rows:
        raise _unreadable(path, "the header and the rows do not agree")
    return values


def _unreadable(path: Any, reason: object) -> UserError:
    return UserError(f"not a packed file: {reason}", where=str(path), fix="write the file anew")


def _header_rows(handle: IO[bytes]) -> int:
    version = np.lib.format.read_magic(handle)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(handle)
    if dtype != np.dtype("O") or len(shape) != 1:
        raise ValueError(f"holds {dtype} of shape {shape}, not a row of dictionaries")
    return shape[0]


class _Array:
    """Stands in for an array while the pickle is read; ``value`` is a list (objects) or an array."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, _, data = state
        if not isinstance(dtype, _Dtype) or len(shape) != 1:
            raise ValueError("an array is not flat")
        self.value = [_plain(item) for item in data] if dtype.name == "O8" else dtype.array(data, shape[0])


class _Dtype:
    """Stands in for ``np.dtype``: its name and byte order, and nothing that NumPy would run."""

    NAMES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "O8")

    def __init__(self, name: str, *_: object) -> None:
        if name not in self.NAMES:
            raise ValueError(f"an array holds {name!r}, not whole numbers")
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "<"

    def array(self, data: bytes, length: int = -1) -> np.ndarray:
        return np.frombuffer(data, dtype=np.dtype(self.order + self.name), count=length)


_STAND_INS = {
    ("numpy", "array"): lambda rows, _: _Array([_plain(row) for row in rows]),
    ("numpy", "frombuffer"): lambda data, dtype: _Array(_Dtype(dtype[1:]).array(data)),
    ("builtins", "list"): list,
    # What np.save writes, NumPy 1 and 2: _reconstruct is called with the class, no shape and a code, all passed over.
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


class _SafeUnpickler(pickle.Unpickler):
    """Builds only the stand-ins above; every other name in the file is refused, not imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STAND_INS:
            return _STAND_INS[module, name]
        raise UserError(
            f"the file asks to build {module}.{name}, which no packed file needs",
            fix="do not load it with np.load either; write it anew from its traces",
        )


def _plain(item: Any) -> Any:
    """Replace stand-ins by what they stand for, one level into a dictionary."""
    if isinstance(item, dict):
        return {key: value.value if isinstance(value, _Array) else value for key, value in item.items()}
    return item.value if isinstance(item, _Array) else item
