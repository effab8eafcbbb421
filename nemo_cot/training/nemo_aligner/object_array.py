"""Write and read .npy files of dictionaries, pack by pack and without running their code.

NumPy stores an array of Python objects as a header and one pickle. ``np.save`` builds that pickle
in memory; :class:`ObjectArrayWriter` emits the same opcodes one dictionary at a time, so that its
memory does not grow with the file. A pickle can run any code when it is loaded:
:func:`read_object_array` builds nothing but numbers, lists, dictionaries and flat arrays.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Hashable
from typing import IO, Any

import numpy as np

from nemo_cot.errors import UserError

# The name that every NumPy since 1.0 can load; 2.x calls it numpy._core and keeps this one.
_RECONSTRUCT = ("numpy.core.multiarray", "_reconstruct")
_FIRST_FREE = 16  # memo places below this one hold the names that every array needs


class ObjectArrayWriter:
    """Write dictionaries of int arrays and int lists to ``handle``; :meth:`close` ends the file.

    Arrays given the same ``share`` key are stored once, as one object for the reader too.
    """

    def __init__(self, handle: IO[bytes], rows: int) -> None:
        self._handle = handle
        self._shared: dict[Hashable, int] = {}
        self._dtypes: dict[str, int] = {}
        self.rows_left = rows
        header = {"descr": "|O", "fortran_order": False, "shape": (rows,)}
        np.lib.format.write_array_header_1_0(handle, header)
        handle.write(pickle.PROTO + b"\x03")
        self._handle.write(
            _global(*_RECONSTRUCT) + _put(0) + _global("numpy", "ndarray") + _put(1)
            + _NO_SHAPE + pickle.TUPLE3 + pickle.REDUCE
            + pickle.MARK + pickle.BININT1 + b"\x01" + _int(rows) + pickle.TUPLE1
            + _dtype("O8") + pickle.NEWFALSE + pickle.EMPTY_LIST
        )  # fmt: skip

    def add(self, row: dict[str, np.ndarray | list[int]], share: dict[str, Hashable] | None = None) -> None:
        """Append one dictionary. ``share`` gives, by field, the key of an array that may recur."""
        self.rows_left -= 1
        self._handle.write(pickle.EMPTY_DICT + pickle.MARK)
        for name, value in row.items():
            self._handle.write(_text(name))
            if isinstance(value, list):
                items = b"".join(_int(item) for item in value)
                self._handle.write(pickle.EMPTY_LIST + pickle.MARK + items + pickle.APPENDS)
            else:
                self._array(value, (share or {}).get(name))
        self._handle.write(pickle.SETITEMS + pickle.APPEND)

    def close(self) -> None:
        """End the array. Raises ValueError unless as many rows were added as announced."""
        if self.rows_left:
            raise ValueError(f"{self.rows_left} rows are missing")
        self._handle.write(pickle.TUPLE + pickle.BUILD + pickle.STOP)

    def _array(self, array: np.ndarray, key: Hashable | None) -> None:
        if key is not None and key in self._shared:
            self._handle.write(_get(self._shared[key]))
            return
        data = np.ascontiguousarray(array).data.cast("B")
        self._handle.write(
            _get(0) + _get(1) + _NO_SHAPE + pickle.TUPLE3 + pickle.REDUCE
            + pickle.MARK + pickle.BININT1 + b"\x01" + _int(len(array)) + pickle.TUPLE1
            + self._dtype_of(array) + pickle.NEWFALSE
            + pickle.BINBYTES + struct.pack("<I", len(data))
        )  # fmt: skip
        self._handle.write(data)
        self._handle.write(pickle.TUPLE + pickle.BUILD)
        if key is not None:
            self._shared[key] = _FIRST_FREE + len(self._shared)
            self._handle.write(_put(self._shared[key]))

    def _dtype_of(self, array: np.ndarray) -> bytes:
        name = array.dtype.str[1:]
        if name in self._dtypes:
            return _get(self._dtypes[name])
        self._dtypes[name] = 2 + len(self._dtypes)
        return _dtype(name) + _put(self._dtypes[name])


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

    value: Any = None

    def __init__(self, *_: object) -> None:
        pass

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

    def array(self, data: bytes, length: int) -> np.ndarray:
        return np.frombuffer(data, dtype=np.dtype(self.order + self.name), count=length)


class _SafeUnpickler(pickle.Unpickler):
    """Builds only the stand-ins above; every other name in the file is refused, not imported."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in (_RECONSTRUCT[0], "numpy._core.multiarray"):
            return _Array  # called with the class, no shape and a code: all passed over
        if (module, name) == ("numpy", "ndarray"):
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        raise UserError(
            f"the file asks to build {module}.{name}, which no packed file needs",
            fix="do not load it with np.load either; write it anew from its traces",
        )


def _plain(item: Any) -> Any:
    """Replace stand-ins by what they stand for, one level into a dictionary."""
    if isinstance(item, dict):
        return {key: value.value if isinstance(value, _Array) else value for key, value in item.items()}
    return item.value if isinstance(item, _Array) else item


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _put(place: int) -> bytes:
    return pickle.LONG_BINPUT + struct.pack("<I", place)


def _get(place: int) -> bytes:
    return pickle.LONG_BINGET + struct.pack("<I", place)


def _int(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def _dtype(name: str) -> bytes:
    """What NumPy writes for a dtype: dtype(name, False, True), then its byte order and no fields."""
    order = "|" if name == "O8" or name.endswith("1") else "<"
    flags = 63 if name == "O8" else 0
    state = pickle.BININT1 + b"\x03" + _text(order) + pickle.NONE * 3 + _int(-1) * 2 + _int(flags)
    return (
        _global("numpy", "dtype") + _text(name) + pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3
        + pickle.REDUCE + pickle.MARK + state + pickle.TUPLE + pickle.BUILD
    )  # fmt: skip


_NO_SHAPE = pickle.BININT1 + b"\x00" + pickle.TUPLE1 + pickle.SHORT_BINBYTES + b"\x01b"
