"""What a chain will do, stage by stage, and why: the one planner of run, plan, submit and single recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from nemo_cot.errors import UserError, one_line
from nemo_cot.experiment.graph import Graph
from nemo_cot.stages import RunDirectory, Stage
from nemo_cot.stages.engine import SETTLED, Plan, look_at, reuse_stage
from nemo_cot.stages.manifest import MANIFEST

_MOST_NAMED = 3


@dataclass(frozen=True)
class Step:
    """One stage. ``action``: skip, reuse, resume, run, or wait for the stages ``after``, which are not settled.

    ``finished``: there is a result, of this or another config; ``replaces``: a new one replaces it. ``part``:
    it only serves another stage.
    """

    stage: Stage
    action: str
    reasons: Sequence[str] = ()
    after: tuple[str, ...] = ()
    finished: bool = False
    replaces: bool = False
    part: bool = False

    @property
    def settled(self) -> bool:
        """Whether the stage's result is known already."""
        return self.action in SETTLED

    @property
    def why(self) -> tuple[str, str]:
        """The action and its reason, in words."""
        if self.action != "wait":
            return self.action, "; ".join(self.reasons) or "has not been run"
        more = f" and {len(self.after) - _MOST_NAMED} more" if len(self.after) > _MOST_NAMED else ""
        waiting = ", ".join(self.after[:_MOST_NAMED]) + more
        if self.finished:
            return "open", f"runs unless the outputs of {waiting} stay the same"
        return "run", f"after {waiting}"


def plan_chain(graph: Graph, run: RunDirectory, *, carry_out: bool = False) -> list[Step]:
    """One step per stage of ``graph``, without the parts of a stage that is settled without them.

    Writes nothing: ``run`` then reads what would be reused in the other run. With ``carry_out`` it is reused.
    """
    look = reuse_stage if carry_out else look_at
    steps: dict[str, Step] = {}
    wholes = graph.wholes
    for name, stage in graph.stages.items():
        whole = wholes.get(name)
        if whole is not None and whole not in steps:
            steps[whole] = _step(graph.stages[whole], steps, run, look)
        if whole is None or not steps[whole].settled:
            step = steps.pop(name, None) or _step(stage, steps, run, look)
            steps[name] = replace(_after_parts(step, steps), part=whole is not None)
    return list(steps.values())


def _after_parts(step: Step, steps: dict[str, Step]) -> Step:
    waiting = tuple(part for part in step.stage.part_stages if part in steps and not steps[part].settled)
    if step.settled or not waiting:
        return step
    # One that runs in any case is not "open", though there is a result.
    return replace(step, action="wait", after=waiting, finished=step.finished and step.action == "wait")


def _step(
    stage: Stage, steps: dict[str, Step], run: RunDirectory, look: Callable[[Stage, RunDirectory], Plan]
) -> Step:
    finished = (run.stage(stage.name) / MANIFEST).exists()
    waiting = tuple(need for need in stage.needs if need in steps and not steps[need].settled)
    if stage.found is not None:
        waiting = tuple(name for name, step in steps.items() if not step.settled)
    if waiting:
        return Step(stage, "wait", after=waiting, finished=finished)
    try:
        plan = look(stage, run)
    except UserError as error:
        return Step(stage, "run", [f"not ready: {error}"], finished=finished)
    return Step(stage, plan.action, plan.reasons, finished=finished, replaces=plan.replaces)


def reuse_chain(graph: Graph, run: RunDirectory, *, dry_run: bool = False) -> list[Step]:
    """Reuse every stage that another run has finished, and print one line for each. Returns all steps.

    With ``dry_run`` nothing is written, and ``run`` reads those stages in the other run.
    """
    steps = plan_chain(graph, run, carry_out=bool(run.reuse) and not dry_run)
    for step in steps:
        if step.action == "reuse":
            verb = "would be reused" if dry_run else "reused"
            print(one_line(f"[{step.stage.name}] {verb} {step.why[1]}"), flush=True)
    if not dry_run:
        run.hasher().save()
    return steps


def print_replaced(steps: Iterable[Step], run: RunDirectory) -> None:
    """Print one line if finished stages of ``run`` will be replaced: which, why, and how to keep them."""
    changed, behind = [], []
    for step in steps:
        if step.stage.found is not None or step.part:
            continue  # made again in any case; no stage reads it
        if step.replaces and not step.settled:
            changed.append(f"{step.stage.name} ({'; '.join(step.reasons)})")
        elif step.action == "wait" and step.finished:
            behind.append(step.stage.name)
    if changed:
        then = f"; and, unless their inputs come out the same, {', '.join(behind)}" if behind else ""
        line = f"finished stages will be replaced: {', '.join(changed)}{then}."
        print(one_line(f"{line} To keep them: name=OTHER reuse=[{run.path.name}]"), flush=True)
