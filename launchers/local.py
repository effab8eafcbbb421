"""Run a chain on this machine: each recipe in its own process, one after another.

A failed stage blocks those that need it; the report still runs and shows what failed. Killing the
launcher kills the recipe that it is running; the same command resumes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import msgspec

from nemo_cot.errors import one_line
from nemo_cot.experiment.compose import compose_config, to_dataclasses, to_yaml
from nemo_cot.experiment.examine import examine, refuse_errors
from nemo_cot.experiment.graph import Graph, graph
from nemo_cot.experiment.planner import plan_chain, print_replaced
from nemo_cot.experiment.recipe import HERE
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.guard import INTERRUPTED, LIFELINE
from nemo_cot.io.atomic import write_bytes
from nemo_cot.io.paths import CHAIN_FILE
from nemo_cot.launchers.slurm.live import refuse_live_jobs
from nemo_cot.records import StageEnd
from nemo_cot.stages import RunDirectory
from nemo_cot.stages.lock import INHERITED, run_lock

_GRACE_SECONDS = 10.0


def run_chain(overrides: Sequence[str]) -> int:
    """Run every stage of launcher.stages. Returns 0, or the exit code of the first that failed.

    Raises UserError, before anything is written, for errors of preflight and while a submitted chain is
    in the queue.
    """
    tree = compose_config(overrides)
    cfg = to_dataclasses(tree)
    chain = graph(cfg)
    run = run_directory(cfg)
    refuse_errors(examine(cfg, run, chain)[1])
    refuse_live_jobs(run.path, may_lack_slurm=True)  # before the lock, which the jobs of a chain also hold
    with run_lock(run.create().path) as lock:
        refuse_live_jobs(run.path, may_lack_slurm=True)  # a submission may have held it until now
        looked_at = run_directory(cfg)
        print_replaced(plan_chain(chain, looked_at), looked_at)
        looked_at.hasher().save()
        write_bytes(run.path / "config.yaml", to_yaml(tree).encode())
        started = time.monotonic()
        ended = run_recipes(chain, run, lambda recipe: run_recipe_process(recipe, overrides, lock))
        bad = [e for e in ended if e.outcome in ("failed", "interrupted")]
        _summarise(run, ended, bad, time.monotonic() - started)
        return (bad[0].exit_code or 1) if bad else 0


def _summarise(run: RunDirectory, ended: Sequence[StageEnd], bad: Sequence[StageEnd], seconds: float) -> None:
    outcome = f"{bad[0].stage} {bad[0].outcome}" if bad else "finished"
    print(one_line(f"{outcome} after {seconds:.0f} s; run directory: {run.path}"))
    page = run.stage("report") / "report.html"
    if any(e.stage == "report" and e.outcome == "ok" for e in ended):
        print(one_line(f"report: {page}"))
        print("        " + one_line(str(page.with_suffix(".md"))), flush=True)


def run_recipes(chain: Graph, run: RunDirectory, start: Callable[[str], StageEnd]) -> list[StageEnd]:
    """How each recipe ended: in order, by ``start``, without those that need one that did not end well; none after one
    that was interrupted. Written into chain.json as they end.
    """
    ended: list[StageEnd] = []
    for recipe in chain.recipes:
        needed = chain.ancestors(recipe)
        blocked = next((e.stage for e in ended if e.outcome != "ok" and e.stage in needed), None)
        ended.append(StageEnd(recipe, f"not run: it needs {blocked}", None) if blocked else start(recipe))
        if recipe != "report":
            write_bytes(run.path / CHAIN_FILE, msgspec.json.encode(ended))
        if ended[-1].outcome == "interrupted":
            break
    return ended


def run_recipe_process(
    stage: str,
    overrides: Sequence[str],
    lock: int,
    more: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> StageEnd:
    """Run the recipe ``stage`` in a process of its own, which dies with this one; how it ended.

    ``lock``: the descriptor of the run's lock. ``more``: environment variables. ``log``: where its output goes.
    """
    read_end, write_end = os.pipe()  # the recipe dies when the write end closes, so with this process
    environment = {**os.environ, **(more or {}), INHERITED: str(lock), LIFELINE: str(read_end)}
    # By path: with -m, a folder named recipes in the working directory would take precedence.
    command = [sys.executable, str(HERE / f"{stage}.py"), *overrides]
    with open(log, "ab") if log else nullcontext() as output:
        process = subprocess.Popen(
            command, env=environment, pass_fds=(lock, read_end), stdout=output, stderr=output and subprocess.STDOUT
        )
    os.close(read_end)
    _RUNNING.add(process)
    try:
        code = process.wait()
        outcome = "ok" if code == 0 else "failed"
    except KeyboardInterrupt:
        code, outcome = _stop(process), "interrupted"
    finally:
        _RUNNING.discard(process)
        os.close(write_end)
    if code < 0:
        print(
            f"error: {stage}: killed by signal {signal.Signals(-code).name}. Fix: look for lack of memory "
            "(dmesg), then run the same command again: it resumes",
            file=sys.stderr,
            flush=True,
        )
        code = 128 - code
    return StageEnd(stage, outcome, code)


_RUNNING: set[subprocess.Popen] = set()
"""Recipes of this process that run now; those of several runs at a time are in threads."""


def stop_recipes() -> None:
    """End all recipes that this process has started, as Ctrl-C ends one."""
    for process in list(_RUNNING):
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
    for process in list(_RUNNING):
        _stop(process)


def _stop(process: subprocess.Popen) -> int:
    """Ctrl-C also reaches the recipe; give it a moment, then kill it. A second Ctrl-C kills at once."""
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(_GRACE_SECONDS)
        return INTERRUPTED
    process.kill()
    process.wait()
    return INTERRUPTED
