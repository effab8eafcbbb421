"""What several tests need: our commands, here or as processes, a small experiment, digests of what it made."""

from __future__ import annotations

import atexit
import functools
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemo_cot.stages import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("convert", "problems", "generate", "grade", "curate", "pack", "train", "evaluate", "report")
SECONDS = 900
"""Bound of every wait: far above what anything here takes on a machine that is busy with other work."""

_TIMES = ("seconds", "tokens_per_second")
_NOT_COMPARED = {"manifest.json", "chain.json", "config.yaml", ".lock", "tensorboard"}


def environment(**more: str) -> dict[str, str]:
    """The environment of our processes: this checkout's modules, one thread."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def python(*arguments: object, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python to its end; ``more`` are environment variables."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(**more),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def nemo_cot(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """The command line, as the console script calls it."""
    return command("nemo_cot.launchers.cli", *arguments, **options)


def recipe(name: str, *overrides: object, **options) -> subprocess.CompletedProcess[str]:
    """One stage alone."""
    return command(f"nemo_cot.recipes.{name}", *overrides, **options)


def command(module: str, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """``python -m module``: forked from a process that has imported it, unless something of the start matters."""
    if options.keys() & {"preexec", "PYTHONPATH"}:
        return python("-m", module, *arguments, **options)
    cwd = options.pop("cwd", None)
    return _forks().command(module, list(map(str, arguments)), environment(**options), cwd or Path.cwd())


@functools.cache
def _forks():
    from tests.chain.forks import Forks

    folder = tempfile.TemporaryDirectory(prefix="forks-")
    atexit.register(folder.cleanup)
    forks = Forks(Path(folder.name))
    atexit.register(forks.__exit__)
    return forks


def nemo_cot_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in this process, which takes no start-up; what it starts itself is not caught."""
    from nemo_cot.launchers import cli

    return _here(lambda: cli._dispatch(str(arguments[0]), [str(a) for a in arguments[1:]]))


def recipe_here(name: str, *overrides: object) -> subprocess.CompletedProcess[str]:
    """One stage alone, in this process."""
    from nemo_cot.experiment.graph import load_recipe
    from nemo_cot.experiment.recipe import run_recipe

    return _here(lambda: run_recipe(load_recipe(name), [str(o) for o in overrides]))


def _here(main: Callable[[], int | None]) -> subprocess.CompletedProcess[str]:
    from nemo_cot.guard import guarded

    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as error:
        code = guarded(main)
    return subprocess.CompletedProcess([], code, out.getvalue(), error.getvalue())


def run_stages(overrides: Sequence[str], *recipes: str) -> RunDirectory:
    """Bring the stages of ``recipes`` up to date in this process, without preflight; the run."""
    from nemo_cot.experiment.compose import load_config
    from nemo_cot.experiment.graph import whole_graph
    from nemo_cot.experiment.rundirs import run_directory
    from nemo_cot.stages import run_stage

    cfg = load_config(overrides)
    run = run_directory(cfg).create()
    for stage in whole_graph(cfg).only(recipes).stages.values():
        run_stage(stage, run, show=lambda line: None)
    return run


def start(*arguments: object, output: Path, **more: str) -> subprocess.Popen:
    """Start Python in a process group of its own, stdout and stderr into ``output``."""
    with open(output, "ab") as handle:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment(**more),
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def tiny_experiment(model: Path, runs_dir: Path, name: str = "tiny") -> list[str]:
    """Overrides of a whole chain that takes a moment."""
    return [
        "model=hf_directory", f"model.path={model}", f"runs_dir={runs_dir}", f"name={name}",
        "problems.num_train=6", "problems.num_heldout=3", "generate.samples_per_problem=4",
        "curate.num_traces=4", "curate.min_tokens=40", "curate.max_tokens=400",
        "train.max_steps=4", "train.global_batch_size=8", "train.precision=fp32",
        "train.save_interval_steps=1", "evaluate.samples_per_problem=2", "evaluate.bootstrap_resamples=100",
        "evaluate.sampling.batch_size=2",
        "evaluate.sampling.max_new_tokens=12", "evaluate.sampling.precision=fp32", "grade.workers=1",
    ]  # fmt: skip


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every artifact below ``folder``, by path; manifests, reports and times left out."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not {*p.parts} & _NOT_COMPARED)
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(_content(path)).hexdigest()
        for path in files
        if "report" not in path.relative_to(folder).parts
    }


def _content(path: Path) -> bytes:
    """The bytes that must be the same each time: all, but for the times in metrics.jsonl."""
    if path.name != "metrics.jsonl":
        return path.read_bytes()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [{key: value for key, value in row.items() if key not in _TIMES} for row in rows]
    return json.dumps(kept).encode()


def one_error(done: subprocess.CompletedProcess[str], *parts: str, code: int = 2) -> str:
    """The one error line of a command that refused: what, where and the fix. Asserts that it is so, and the exit
    code: 2 for a mistake of the user's, 3 for a fault of a machine or a server.
    """
    assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-4000:])
    assert "Traceback" not in done.stderr + done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    told = ("  ", "warning: preflight, ")  # progress, and what preflight warned of before
    others = [line for line in done.stderr.splitlines() if line != errors[0] and not line.startswith(told)]
    assert not others, done.stderr
    assert ". Fix: " in errors[0]
    for part in parts:
        assert part in errors[0]
    return errors[0]


def wait_for(condition: Callable[[], object], *, seconds: float = SECONDS, every: float = 0.001) -> object:
    """The first true value of ``condition``. Fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(every)
    raise AssertionError(f"nothing after {seconds} s")


def rows(path: Path) -> list[dict]:
    """Those of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, rows: Sequence[dict]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
