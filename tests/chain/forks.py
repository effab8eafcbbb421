"""Recipes in processes that need no start-up: one server imports everything and forks a process each.

``python -m tests.chain.forks`` is the server: a JSON request per line on stdin; a line with the pid,
then a line with the exit code on stdout. A config is composed once, whatever runs_dir it is used with.
A forked recipe notes its calls that change the disk for good, and kills itself with SIGKILL before the
one that ``kill_at`` counts.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from nemo_cot.config import Config
from nemo_cot.experiment import recipe
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.graph import load_recipe
from tests.support import RECIPES, SECONDS, environment, wait_for

_CALLS = ((os, "rename"), (os, "replace"), (os, "fsync"), (shutil, "rmtree"))


@dataclass(frozen=True)
class Ended:
    """``calls``: those that were noted, in order, such as "rename train"; ``output``: stdout and stderr."""

    code: int
    output: str
    calls: list[str]


class Forks:
    """The server's other end. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.chain.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.kill()
        self._server.wait()

    def run(self, recipe: str, overrides: Sequence[str], *, kill_at: int | None = None) -> Ended:
        """Run one recipe to its end, or to its kill."""
        self.begin(recipe, overrides, kill_at=kill_at)
        return self.end()

    def begin(self, recipe: str, overrides: Sequence[str], *, kill_at: int | None = None) -> int:
        """Start one recipe; returns its pid. :meth:`end` must follow."""
        self._count += 1
        request = {
            "recipe": recipe,
            "overrides": list(overrides),
            "kill_at": kill_at,
            "output": f"{self._path}.out",
            "calls": f"{self._path}.calls",
        }
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def end(self) -> Ended:
        """Wait for the recipe that was begun."""
        code = self._answer()
        calls = Path(f"{self._path}.calls")
        return Ended(
            code, Path(f"{self._path}.out").read_text(), calls.read_text().splitlines() if calls.exists() else []
        )

    @property
    def _path(self) -> Path:
        return self._folder / f"fork-{self._count}"

    def _answer(self) -> int:
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(SECONDS)
        try:
            return int(self._server.stdout.readline())
        finally:
            signal.alarm(0)


def _too_long(*_: object) -> None:
    raise AssertionError(f"a recipe did not end within {SECONDS} s")


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie counts as ended)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_gone(pid: int) -> None:
    """Fails when the process does not end."""
    wait_for(lambda: gone(pid), every=0.01)


def _serve() -> None:
    _import_all()
    for line in sys.stdin:
        request = json.loads(line)
        place = _composed(request["overrides"])
        pid = os.fork()
        if pid == 0:
            _child(request, place)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _composed(overrides: Sequence[str]) -> Config:
    """The config of ``overrides``, of which the last runs_dir counts."""
    places = [override for override in overrides if override.startswith("runs_dir=")]
    rest = tuple(override for override in overrides if override not in places)
    return replace(_without_place(rest), runs_dir=places[-1].partition("=")[2])


_without_place = lru_cache(load_config)


def _import_all() -> None:
    import nemo_cot.provenance as provenance
    import nemo_cot.sampling.embedded.engine
    import nemo_cot.training.local.trainer  # noqa: F401

    importlib.import_module("transformers.models.llama.modeling_llama")
    importlib.import_module("reasoning_gym")
    for name in RECIPES:
        load_recipe(name)
    provenance.code_revision()
    provenance.package_versions()


def _child(request: dict, cfg: Config) -> None:
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    calls = _watch(request["kill_at"])
    code = 1
    try:
        recipe.load_config = lambda _: cfg
        sys.argv = [request["recipe"], *request["overrides"]]
        recipe.recipe_main(load_recipe(request["recipe"]))
    except SystemExit as end:
        code = int(end.code or 0)
        Path(request["calls"]).write_text("\n".join(calls))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch(kill_at: int | None) -> list[str]:
    """Note the calls that change the disk, and die before the one numbered ``kill_at`` (from 0)."""
    calls: list[str] = []

    def noted(module: object, name: str):
        call = getattr(module, name)

        def wrapper(*arguments, **options):
            at = os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else arguments[0]
            if not str(at).endswith(".progress.json.tmp"):  # written by the clock
                if len(calls) == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                calls.append(f"{name} {Path(at).name}")
            return call(*arguments, **options)

        return wrapper

    for module, name in _CALLS:
        setattr(module, name, noted(module, name))
    return calls


if __name__ == "__main__":
    _serve()
