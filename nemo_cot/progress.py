"""Progress of long work: a bar on a terminal, plain lines in a log, a file for ``status``."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nemo_cot.io.json_file import DAMAGED

R = TypeVar("R")
PROGRESS = ".progress.json"
_FILE_EVERY_SECONDS = 1.0
_LINE_EVERY_SECONDS = 10.0


class ProgressFile(msgspec.Struct):
    """What ``status`` reads: units done, total units, and the latest figures as text."""

    label: str
    done: int
    total: int
    unit: str
    figures: str
    updated: float


class Tracker:
    """Counts ``done`` of ``total`` and shows it; made by :func:`track`."""

    def __init__(self, label: str, total: int, unit: str, folder: Path | None, done: int) -> None:
        self._state = ProgressFile(label, done, total, unit, "", 0.0)
        self._folder = folder
        self._terminal = sys.stderr.isatty()
        self._bar = _bar() if self._terminal else None
        self._task = self._bar.add_task(label, total=total, completed=done, figures="") if self._bar else None
        self._started, self._first = time.monotonic(), done
        self._last_file = self._last_line = 0.0
        self._printed = ""

    @property
    def total(self) -> int:
        """The units of the whole work, as far as it is known."""
        return self._state.total

    def update(self, done: int, *, total: int | None = None, **figures: str) -> None:
        """Set the count (and the total, if it was unknown); ``figures`` are shown as "name value", in order.
        """
        self._state.done = done
        self._state.total = self._state.total if total is None else total
        self._state.figures = "  ".join(f"{name} {value}" for name, value in figures.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self._state.total, figures=self._state.figures)
        now = time.monotonic()
        last = done >= self._state.total
        if self._folder is not None and (last or now - self._last_file >= _FILE_EVERY_SECONDS):
            self._last_file = now
            self._write_file()
        if not self._terminal and (last or now - self._last_line >= _LINE_EVERY_SECONDS):
            self._last_line = now
            self._print(self._line(now))

    def _print(self, line: str) -> None:
        """Once per count: both a worker and the end of the work may report the last unit."""
        if line != self._printed:
            self._printed = line
            print(line, file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        state = self._state
        fresh = state.done - self._first
        left = f"  {(now - self._started) / fresh * (state.total - state.done):.0f} s left" if fresh else ""
        return f"  {state.label}: {state.done}/{state.total} {state.unit}  {state.figures}{left}".rstrip()

    def _write_file(self) -> None:
        """Not synced to disk: losing it costs nothing."""
        self._state.updated = time.time()
        temporary = self._folder / (PROGRESS + ".tmp")
        with contextlib.suppress(OSError):
            temporary.write_bytes(msgspec.json.encode(self._state))
            temporary.replace(self._folder / PROGRESS)


@contextlib.contextmanager
def track(
    label: str, total: int, unit: str, folder: Path | None = None, *, done: int = 0
) -> Iterator[Tracker]:
    """Show the progress of ``total`` units, ``done`` of which are finished already.

    ``folder`` is the stage's own folder, where the file for ``status`` goes.
    """
    tracker = Tracker(label, total, unit, folder, done)
    with tracker._bar or contextlib.nullcontext():
        yield tracker


def tracked(rows: Iterable[R], label: str, total: int, unit: str, folder: Path | None = None) -> Iterator[R]:
    """``rows``, one by one, with the progress through ``total`` of them; see :func:`track`."""
    with track(label, total, unit, folder) as tracker:
        for done, row in enumerate(rows, start=1):
            yield row
            tracker.update(done)


def read_progress(folder: Path) -> ProgressFile | None:
    """The latest progress of the stage working in ``folder``; None before any."""
    try:
        return msgspec.json.decode((folder / PROGRESS).read_bytes(), type=ProgressFile)
    except (OSError, *DAMAGED):
        return None


def shown_progress(folders: Iterable[Path]) -> str:
    """The latest progress in any of ``folders``, for a table; empty without one."""
    found = [progress for folder in folders if (progress := read_progress(folder)) is not None]
    last = max(found, key=lambda progress: progress.updated, default=None)
    return "" if last is None else f"{last.done}/{last.total} {last.unit}  {last.figures}".strip()


def _bar() -> Progress:
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
