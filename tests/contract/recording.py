"""Which keys of an OmegaConf config are read, by their full path."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def recorded_reads(config: Any, prefix: str = "") -> Iterator[set[str]]:
    """The dotted paths that are looked up in ``config`` (a DictConfig) or a section of it, in the block.

    A section that is copied or merged is another config: what is read of the copy is not recorded.
    """
    from omegaconf import DictConfig

    found: set[str] = set()
    look_up = DictConfig._get_impl

    def recorded(self: Any, key: Any, *args: Any, **named: Any) -> Any:
        if self._get_root() is config:
            found.add(prefix + self._get_full_key(key))
        return look_up(self, key, *args, **named)

    DictConfig._get_impl = recorded
    try:
        yield found
    finally:
        DictConfig._get_impl = look_up
