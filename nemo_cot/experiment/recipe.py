"""What every recipe does around its stages: config, lock, engine, errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from nemo_cot import ROOT
from nemo_cot.config import Config
from nemo_cot.guard import guarded
from nemo_cot.io.paths import user_path
from nemo_cot.stages import RunDirectory, Stage, run_stage
from nemo_cot.stages.lock import CHAIN_JOB, run_lock
from nemo_cot.stopping import raise_on_signals
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.examine import examine, refuse_errors
from nemo_cot.experiment.reuse import reused_runs

Recipe = Callable[[Config, RunDirectory], Iterable[Stage]]

HERE = (ROOT / "recipes").resolve()


def recipe_main(recipe: Recipe) -> None:
    """Run the stages of ``recipe`` with the overrides of the command line, then exit."""
    _leave_script_folder()
    raise_on_signals()
    sys.exit(guarded(lambda: _run(recipe, sys.argv[1:])))


def run_directory(cfg: Config) -> RunDirectory:
    """The directory of this experiment's run; it need not exist."""
    return RunDirectory(user_path(cfg.runs_dir) / cfg.name, reuse=reused_runs(cfg).values())


def _run(recipe: Recipe, arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print(
            f"{(recipe.__doc__ or '').strip()}\n\nUsage: python {sys.argv[0]} [key=value ...]\n"
            "`nemo-cot show` prints all keys."
        )
        return
    cfg = load_config(arguments)
    run = run_directory(cfg)
    refuse_errors(examine(cfg, run, stage=recipe.__name__)[1])
    run.create()
    with run_lock(run.path, shared=_beside_others(recipe.__name__, cfg)):
        for stage in recipe(cfg, run):
            run_stage(stage, run, say=_say)


def _beside_others(recipe: str, cfg: Config) -> bool:
    """The jobs of a submitted chain, and one chunk alone, share the run directory with their like."""
    return CHAIN_JOB in os.environ or getattr(getattr(cfg, recipe, None), "chunk", None) is not None


def _say(line: str) -> None:
    print(line, flush=True)


def _leave_script_folder() -> None:
    """``python recipes/train.py`` puts recipes/ first on the path, where its files would hide
    libraries of the same name (evaluate, for one)."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
