"""Check lengths once, at the door, and hand them on as an array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nemo_cot.errors import UserError


def checked_lengths(lengths: Sequence[int], capacity: int) -> np.ndarray:
    """``lengths`` as int64, shape (n,).

    Raises UserError naming the index when a length is not a whole number in 1..capacity, and
    when ``capacity`` is not a whole number above 0.
    """
    if not isinstance(capacity, (int, np.integer)) or isinstance(capacity, bool) or capacity < 1:
        raise UserError(f"the capacity is {capacity!r}", fix="give a whole number of tokens above 0")
    array = np.asarray(lengths)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UserError(
            f"lengths have type {array.dtype} and {array.ndim} dimension(s)",
            fix="give a flat sequence of whole numbers",
        )
    wrong = np.flatnonzero((array < 1) | (array > capacity))
    if wrong.size:
        length, others = array[wrong[0]], f" (and {wrong.size - 1} more)" if wrong.size > 1 else ""
        what, fix = f", over the capacity {capacity}", "raise the capacity, or drop or shorten the sequence when the data is prepared"
        if length < 1:
            what, fix = "", "drop empty sequences first"
        raise UserError(f"sequence {wrong[0]} has length {length}{what}{others}", fix=fix)
    return array.astype(np.int64)
