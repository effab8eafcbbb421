"""The entry point of every recipe: config, lock, engine, errors."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from nemo_cot import ROOT
from nemo_cot.config import Config
from nemo_cot.errors import UserError
from nemo_cot.experiment.compose import load_config
from nemo_cot.experiment.examine import examine, refuse_errors
from nemo_cot.experiment.graph import Graph, Recipe, whole_graph
from nemo_cot.experiment.planner import plan_chain, reuse_chain
from nemo_cot.experiment.rundirs import run_directory
from nemo_cot.guard import guarded
from nemo_cot.stages import RunDirectory, Stage, run_stage
from nemo_cot.stages.lock import CHAIN_JOB, INHERITED, run_lock
from nemo_cot.stages.manifest import MANIFEST
from nemo_cot.stopping import raise_on_signals

HERE = (ROOT / "recipes").resolve()
ONLY = "--only"


def recipe_main(recipe: Recipe) -> None:
    """Run the stages of ``recipe`` with the overrides of the command line, then exit."""
    # `python recipes/train.py` puts recipes/ first on the path, where its files hide libraries (evaluate).
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    raise_on_signals()
    sys.exit(guarded(lambda: run_recipe(recipe, sys.argv[1:])))


def run_recipe(recipe: Recipe, arguments: Sequence[str]) -> None:
    """Run its stages, or the one that --only names, with the other ``arguments`` as overrides. Raises UserError."""
    name, doc = recipe.__name__, recipe.__doc__ or ""
    if {"-h", "--help"} & set(arguments):
        print(
            f"{doc.strip()}\n\nUsage: python {sys.argv[0]} [{ONLY} STAGE] [key=value ...]\n"
            f"{ONLY}: run only this stage of the recipe, such as evaluate/base or generate/chunk-003, beside other processes.\n"
            "`nemo-cot show` prints all keys."
        )
        return
    overrides, only = _split(arguments)
    cfg = load_config(overrides)
    run = run_directory(cfg)
    graph = whole_graph(cfg)
    refuse_errors(examine(cfg, run, graph, stage=name)[1])
    own = graph.only([name])
    if missing := [name for name in only if name not in own.stages]:
        raise UserError(
            f"there is no stage {missing[0]!r}", where=ONLY, fix=f"choose one of {', '.join(own.stages) or 'none'}"
        )
    run.create()
    with run_lock(run.path, shared=CHAIN_JOB in os.environ or bool(only)):
        if run.reuse and INHERITED not in os.environ:  # else the launcher has reused stages already
            _reuse_before(graph, run, only or own.stages)
        stages = list(_to_run(cfg, own, only))
        for stage in stages:
            if stage.look is not None:
                stage.look(run)
        for _, group in itertools.groupby(stages, key=lambda stage: stage.server or stage.name):
            same = list(group)
            with contextlib.ExitStack() as stack:
                if len(same) > 1:
                    from nemo_cot.serving.server import servers_kept  # httpx

                    stack.enter_context(servers_kept(run.path / "servers" / same[0].name))
                for stage in same:
                    run_stage(stage, run)


def _reuse_before(graph: Graph, run: RunDirectory, stages: Iterable[str]) -> None:
    """Reuse what ``stages`` need and this run lacks: a job of another run of a study may have made it by now."""
    before = graph.before(stages)
    if CHAIN_JOB in os.environ:
        before = graph.of(name for name in before.stages if not (run.stage(name) / MANIFEST).exists())
    reuse_chain(before, run)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides, and the values of --only. Raises UserError for one without."""
    overrides, only, rest = [], [], iter(arguments)
    for argument in rest:
        (only if argument == ONLY else overrides).append(next(rest, "") if argument == ONLY else argument)
    if "" in only:
        raise UserError("needs the name of a stage", where=ONLY, fix=f"{ONLY} evaluate/base")
    return overrides, only


def _to_run(cfg: Config, own: Graph, only: Sequence[str]) -> Iterable[Stage]:
    """The stages to run; a stage that is settled without its parts replaces them."""
    if not own.wholes:
        return [own.stages[name] for name in only or own.stages]
    left = {step.stage.name for step in plan_chain(own, run_directory(cfg))}
    if not only:
        return [stage for name, stage in own.stages.items() if name in left]
    return [own.stages[name if name in left else own.wholes[name]] for name in only]
