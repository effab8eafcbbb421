"""Our commands in processes that need no start-up: one server imports everything and forks a process each.

``python -m tests.chain.forks`` is the server: a JSON request per line on stdin; a line with the pid,
then a line with the exit code on stdout. A recipe that is to be killed notes its calls that change the
disk for good, and kills itself with SIGKILL before the one that ``kill_at`` counts.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from nemo_cot.experiment.graph import recipe_names
from nemo_cot.grading import workers as grading_workers
from nemo_cot.grading.helper import _warm_up
from nemo_cot.grading.helper import main as serve_helper
from tests.support import SECONDS, environment, wait_for

_LOAD_MODELS = tuple(f"nemo_cot.recipes.{name}" for name in ("convert", "train", "evaluate"))
_CALLS = ((os, "rename"), (os, "replace"), (os, "fsync"), (shutil, "rmtree"))


@dataclass(frozen=True)
class Ended:
    """``calls``: those that were noted, in order, such as "rename train"; ``output``: stdout and stderr."""

    code: int
    output: str
    calls: list[str]


class Forks:
    """The server's other end. Use as a context manager."""

    def __init__(self, folder: Path, seconds: int = SECONDS) -> None:
        """``seconds`` bounds every wait."""
        self._folder, self._seconds = folder, seconds
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
        self._server.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._server.wait(60)
        self._server.kill()
        self._server.wait()

    def run(self, recipe: str, overrides: Sequence[str], *, kill_at: int | None = None) -> Ended:
        """Run one recipe to its end, or to its kill."""
        self.begin(recipe, overrides, kill_at=kill_at)
        return self.end()

    def begin(self, recipe: str, overrides: Sequence[str], *, kill_at: int | None = None) -> int:
        """Start one recipe; returns its pid. :meth:`end` must follow."""
        return self._ask(
            module=f"nemo_cot.recipes.{recipe}", arguments=list(overrides), kill_at=kill_at, calls=f"{self._next}.calls"
        )

    def command(
        self, module: str, arguments: Sequence[str], env: Mapping[str, str], cwd: Path
    ) -> subprocess.CompletedProcess[str]:
        """What ``python -m module arguments`` would do with this environment, in this directory."""
        errors = f"{self._next}.err"
        pid = self._ask(module=module, arguments=list(arguments), env=dict(env), cwd=str(cwd), errors=errors)
        try:
            code = self._answer()
        except TooLong:
            os.kill(pid, signal.SIGKILL)
            self._answer()
            raise
        return subprocess.CompletedProcess(
            [module, *arguments],
            code,
            Path(f"{self._path}.out").read_text(errors="replace"),
            Path(errors).read_text(errors="replace"),
        )

    @property
    def _next(self) -> Path:
        return self._folder / f"fork-{self._count + 1}"

    def _ask(self, **request: object) -> int:
        request["output"] = f"{self._next}.out"
        self._count += 1
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
        signal.alarm(self._seconds)
        try:
            return int(self._server.stdout.readline())
        finally:
            signal.alarm(0)


class TooLong(AssertionError):
    """A command did not end within the bound."""


def _too_long(*_: object) -> None:
    raise TooLong("a command did not end in time")


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
    _import_light()
    for line in sys.stdin:
        request = json.loads(line)
        if request["module"] in _LOAD_MODELS:
            _import_torch()
        pid = os.fork()
        if pid == 0:
            _child(request)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _import_light() -> None:
    for verb in ("compare", "grade_file", "local", "plan", "report", "status", "slurm.submit", "slurm.logs"):
        importlib.import_module(f"nemo_cot.launchers.{verb}")
    for name in recipe_names():
        importlib.import_module(f"nemo_cot.recipes.{name}")
    for module in ("nemo_cot.evaluation.scores", "nemo_cot.grading.worker", "jinja2"):
        importlib.import_module(module)
    _warm_up()


def _import_torch() -> None:
    import nemo_cot.provenance as provenance
    import nemo_cot.sampling.embedded.decode
    import nemo_cot.training.local.trainer  # noqa: F401

    importlib.import_module("transformers.models.llama.modeling_llama")
    importlib.import_module("reasoning_gym")
    provenance.code_revision()
    provenance.package_versions()


def _child(request: dict) -> None:
    os.dup2(_created(request["output"]), 1)
    os.dup2(_created(request["errors"]) if "errors" in request else 1, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if "env" in request:
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
    grading_workers.subprocess = SimpleNamespace(Popen=_ForkedHelper, DEVNULL=subprocess.DEVNULL)
    calls = _watch(request["kill_at"]) if "calls" in request else []
    code = 1
    try:
        sys.argv = [request["module"], *request["arguments"]]
        module = importlib.import_module(request["module"])
        name = request["module"].rpartition(".")[2]
        module.main() if hasattr(module, "main") else module.recipe_main(getattr(module, name))
    except SystemExit as end:
        code = int(end.code or 0)
        if "calls" in request:
            Path(request["calls"]).write_text("\n".join(calls))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _ForkedHelper:
    """The helper of grading, forked as well: its own start takes seconds, and tests/grading looks at that."""

    def __init__(self, command: Sequence[str], *, pass_fds: Sequence[int], **_: object) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            kept = {0, 1, 2, *pass_fds}
            for descriptor in map(int, os.listdir("/proc/self/fd")):
                if descriptor not in kept:
                    with suppress(OSError):
                        os.close(descriptor)
            with suppress(BaseException):
                serve_helper(pass_fds[0])
            os._exit(0)

    def wait(self) -> None:
        os.waitpid(self.pid, 0)


def _created(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def _watch(kill_at: int | None) -> list[str]:
    """Note the calls that change the disk, and die before the one numbered ``kill_at`` (from 0)."""
    calls: list[str] = []
    received: set[str] = set()

    def noted(module: object, name: str):
        call = getattr(module, name)

        def wrapper(*arguments, **options):
            at = os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else arguments[0]
            place = str(at)
            # Those of the clock have no number: the progress, and what came from a server after the first time.
            if place not in received and not place.endswith(".progress.json.tmp"):
                if len(calls) == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                calls.append(f"{name} {Path(at).name}")
            if place.endswith("/received.jsonl"):
                received.add(place)
            return call(*arguments, **options)

        return wrapper

    for module, name in _CALLS:
        setattr(module, name, noted(module, name))
    return calls


if __name__ == "__main__":
    _serve()
