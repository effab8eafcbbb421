"""SIGUSR1 (a cluster's warning before the time limit) and SIGTERM (preemption): stop cleanly."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Raised by a signal: like Ctrl-C it passes through `except Exception`, and every `finally` runs."""


def raise_on_signals() -> None:
    """From here on SIGUSR1 and SIGTERM raise :class:`Stopped` in the main thread."""
    for number in SIGNALS:
        signal.signal(number, _raise)


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], str | None]]:
    """Inside it the signals raise nothing. Call what it yields at a good moment to stop: it returns the
    name of the signal received, None without one. Outside the main thread no signal is seen.
    """
    seen: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {n: signal.signal(n, lambda number, _: seen.append(_name(number))) for n in SIGNALS}
    try:
        yield lambda: seen[0] if seen else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise(number: int, _: object) -> None:
    raise Stopped(_name(number))


def _name(number: int) -> str:
    return signal.Signals(number).name
