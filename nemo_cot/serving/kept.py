"""A server that stays up from one stage of a process to the next that asks for the same: a 32B model loads for minutes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class _Room:
    folder: Path
    stack: ExitStack
    asked: Any = None
    server: Any = None


_ROOMS: list[_Room] = []


@contextlib.contextmanager
def servers_kept(folder: Path) -> Iterator[None]:
    """Inside it a server that :func:`kept` starts stays up until another is asked for. It works in ``folder``, not in that
    of a stage, which is published before the server ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        _ROOMS.append(_Room(folder, stack))
        try:
            yield
        finally:
            _ROOMS.pop()


@contextlib.contextmanager
def kept(asked: Any, start: Callable[[Path], AbstractContextManager], folder: Path) -> Iterator[Any]:
    """The server (of nemo_cot.serving.server) that ``start`` starts in ``folder``, for as long as the block lasts; inside
    of :func:`servers_kept` the one that is up, if it was ``asked`` for in equal words and has not ended.
    """
    with nullcontext() if _ROOMS else servers_kept(folder):
        room = _ROOMS[-1]
        if room.asked == asked and (room.server.process is None or room.server.process.exit_code() is None):
            print(f"  server: still that at {room.server.base_url}", flush=True)
        else:
            room.stack.close()
            room.server, room.asked = room.stack.enter_context(start(room.folder)), asked
        yield room.server
