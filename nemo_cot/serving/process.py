"""A command beside this process: in a group of its own, with a log, gone when this process is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nemo_cot.serving import keeper

_STOP_SECONDS = 2 * keeper.GRACE_SECONDS + 5


class Process:
    """Made by :func:`running`. ``log`` is where its output goes, every line with its time (UTC)."""

    def __init__(
        self, command: Sequence[str], log: Path, *, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        read_end, self._lifeline = os.pipe()
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", keeper.__file__, str(read_end), str(log), "--", *command],
                pass_fds=(read_end,),
                start_new_session=True,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
            )
        finally:
            os.close(read_end)

    def exit_code(self) -> int | None:
        """None while it runs. 127: there is no such program; 128 + n: ended by signal n."""
        return self._keeper.poll()

    def stop(self) -> None:
        """End it with all that it started, and return when they are gone."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        try:
            self._keeper.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()

    def last_lines(self, count: int = 5) -> str:
        """The end of the log in one line, for an error message."""
        try:
            with open(self.log, "rb") as handle:
                handle.seek(max(0, handle.seek(0, os.SEEK_END) - 8192))
                lines = handle.read().decode(errors="replace").splitlines()
        except OSError:
            lines = []
        told = [line.partition(" ")[2].strip() for line in lines]
        return " | ".join([line for line in told if line][-count:]) or "it wrote nothing"


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, *, cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run ``command`` as long as the block lasts. It ends with this process too, however that ends."""
    process = Process(command, log, cwd=cwd, environment=environment)
    try:
        yield process
    finally:
        process.stop()
