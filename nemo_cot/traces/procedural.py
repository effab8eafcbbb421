"""A teacher that adds by counting and checks its own steps. Some of its traces are deliberately bad."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from nemo_cot.config import ProceduralTeacher
from nemo_cot.errors import UserError
from nemo_cot.records import Problem

_SUM = re.compile(r"(?<![\d.])-?\d+(?:\s*[+-]\s*\d+)+(?![\d.])")


@dataclass(frozen=True)
class Sum:
    """First operand, then signed ones: 4 + 3 - 9 is (4, (3, -9))."""

    first: int
    others: tuple[int, ...]


def parse_sum(problem: Problem) -> Sum:
    """The sum in the problem's text. Raises UserError unless there is exactly one."""
    found = _SUM.findall(problem.problem)
    if len(found) != 1:
        raise UserError(
            f"the procedural teacher reads one sum, found {len(found)}",
            where=f"problem {problem.problem_id}",
            fix="use teacher=model or teacher=file for problems that are not sums",
        )
    first, *others = re.findall(r"[+-]?\d+", found[0].replace(" ", ""))
    return Sum(int(first), tuple(map(int, others)))


def write_trace(problem: Problem, sample: int, teacher: ProceduralTeacher, seed: int) -> tuple[str, str]:
    """The text of one trace and its style: good, wrong, short or long.

    Depends only on the problem, the sample number and the seed.
    """
    rng = random.Random(f"{seed}:{problem.problem_id}:{sample}")
    style = _style(rng.random(), teacher)
    task = parse_sum(problem)
    if style == "short":
        return f"\\boxed{{{_total(task)}}}", style
    slip = rng.randrange(len(task.others)) if style == "wrong" else None
    repeats = 6 if style == "long" else 1
    return _count(task, slip, repeats), style


def _style(draw: float, teacher: ProceduralTeacher) -> str:
    if draw < teacher.wrong_rate:
        return "wrong"
    if draw < teacher.wrong_rate + teacher.short_rate:
        return "short"
    if draw < teacher.wrong_rate + teacher.short_rate + teacher.long_rate:
        return "long"
    return "good"


def _total(task: Sum) -> int:
    return task.first + sum(task.others)


def _count(task: Sum, slip: int | None, repeats: int) -> str:
    """Count through the operands; ``slip``: the one at which the count goes one step too far."""
    lines, values = [f"Start at {task.first}."], [task.first]
    for index, operand in enumerate(task.others):
        line, value = _move(values[-1], operand, extra=index == slip)
        lines.append(line)
        values.append(value)
    for _ in range(repeats):
        lines.append(_check(values, task.others))
    return "\n".join([*lines, f"The answer is \\boxed{{{values[-1]}}}"])


def _move(start: int, operand: int, *, extra: bool) -> tuple[str, int]:
    """Count step by step, each value with the steps left: 7:2,8:1,9:0 adds 3 to 6.

    The 0 shows a small model the end of the count, so it need not keep a tally.
    """
    sign = 1 if operand >= 0 else -1
    steps = abs(operand) + (1 if extra else 0)
    verb = "Add" if sign > 0 else "Subtract"
    counted = ",".join(f"{start + sign * step}:{steps - step}" for step in range(1, steps + 1)) or "nothing"
    end = start + sign * steps
    return f"{verb} {abs(operand)}: {counted}. Now {end}.", end


def _check(values: Sequence[int], others: Sequence[int]) -> str:
    """Undo each step, last first. A slip is repeated, not noticed: the trace stays wrong."""
    undone = [
        f"{after}{'-' if operand >= 0 else '+'}{abs(operand)}={before}"
        for before, after, operand in reversed(list(zip(values, values[1:], others)))
    ]
    return f"Wait, let me check: {', '.join(undone)}. Good."
