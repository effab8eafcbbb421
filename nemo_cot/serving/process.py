"""A command beside this process: in a group of its own, with a log, gone when this process is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nemo_cot.serving import keeper
from nemo_cot.stages.lock import LOCK


class Process:
    """``with Process(command, ...)``: it runs as long as the block lasts, and ends with this process too, however that ends.

    ``log`` is where its output goes, every line with its time (UTC); None: where this process's goes; with ``shown`` to
    both. ``environment`` is added to this process's own. ``scratch`` is a folder that is removed when all is
    gone. ``patience_seconds``: what the command alone has after SIGTERM, before its descendants get one
    too. ``keeps``: descriptors that stay open until it is gone with all that it started.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path | None,
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        scratch: Path | None = None,
        patience_seconds: float = 0.0,
        keeps: Sequence[int] = (),
        shown: bool = False,
    ) -> None:
        self.log = log
        self._stop_seconds = patience_seconds + 2 * keeper.GRACE_SECONDS + 60
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        read_end, self._lifeline = os.pipe()
        options = [str(read_end), str(log or ""), str(scratch or ""), str(patience_seconds), "shown" * shown]
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", keeper.__file__, *options, "--", *command],
                pass_fds=(read_end, *keeps),
                start_new_session=True,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
            )
        finally:
            os.close(read_end)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def exit_code(self) -> int | None:
        """None while it runs. 127: there is no such program; 128 + n: ended by signal n."""
        return self._keeper.poll()

    def wait(self) -> int:
        """Its exit code, once it has ended with all that it started."""
        return self._keeper.wait()

    def stop(self) -> None:
        """End it with all that it started, and return when they are gone."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        try:
            self._keeper.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()

    def last_lines(self, count: int = 5) -> str:
        """The end of the log in one line, for an error message."""
        try:
            with open(self.log or os.devnull, "rb") as handle:
                handle.seek(max(0, handle.seek(0, os.SEEK_END) - 8192))
                lines = handle.read().decode(errors="replace").splitlines()
        except OSError:
            lines = []
        told = [line.partition(" ")[2].strip() for line in lines]
        return " | ".join([line for line in told if line][-count:]) or "it wrote nothing"


def held_locks() -> list[int]:
    """Descriptors of this process that are locks on a run directory, its own or a launcher's.

    A command that keeps them keeps others out until it is gone, also when this process is killed.
    """
    held = []
    with contextlib.suppress(OSError):  # no /proc: not Linux
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the descriptor of the listing itself
                target = os.readlink(f"/proc/self/fd/{name}")
                held += [int(name)] if os.path.basename(target).startswith(LOCK) else []
    return held
