"""Keep freed memory in the process: large activations are allocated again in every layer."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's mallopt(3)."""


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from the heap and not to give the heap back.

    By default each block above 32 MB (and many below) is mapped anew, and its pages cleared by the
    kernel: a quarter of a CPU training step. Returns whether it was done (Linux with glibc only).
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    pairs = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 2**28))
    return all([mallopt(parameter, value) for parameter, value in pairs])
