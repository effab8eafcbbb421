"""nemo-cot plan: what is wrong, what would run and why, and what it costs. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nemo_cot.config.rule import GIB, KNOWN_LATER, Span
from nemo_cot.errors import EXIT_CODE, one_line
from nemo_cot.experiment.compose import load_config
from nemo_cot.launchers.planned import Planned, PlannedStage, planned
from nemo_cot.preflight import Finding

ALL, JSON, SUGGEST = "--all", "--json", "--suggest"
_STYLES = {"error": "red", "warning": "yellow", "unknown": "cyan", "ok": "green"}


def print_plan(arguments: Sequence[str]) -> int:
    """Print the plan; --all: with every rule; --json: everything, for programs; --suggest: with the best few layouts.

    Returns 2 if a rule finds an error, else 0.
    """
    options = {ALL, JSON, SUGGEST} & set(arguments)
    plan = planned(load_config([a for a in arguments if a not in options]), suggest=SUGGEST in options)
    if JSON in options:
        print(msgspec.json.format(msgspec.json.encode(plan), indent=2).decode())
    else:
        _print(plan, every_rule=ALL in options)
    return EXIT_CODE if plan.errors else 0


def _print(plan: Planned, *, every_rule: bool) -> None:
    console = Console(highlight=False)

    def lines(texts: Iterable[str]) -> None:
        for text in texts:
            console.print(text, soft_wrap=True)  # one line each, as errors are

    levels = _STYLES if every_rule else ("error", "warning")
    lines(_finding(finding) for level in levels for finding in plan.findings if finding.level == level)
    lines(_rules(plan))
    console.print(_actions(plan))
    console.print(_costs(plan))
    lines(_figures(plan))
    lines(_suggestions(plan))
    lines([_summary(plan)])


def _finding(finding: Finding) -> str:
    text = f"{finding.what.rstrip('.')}. Fix: {finding.fix}" if finding.fix else finding.what
    return f"[{_STYLES[finding.level]}]{finding.level}[/]: {escape(one_line(f'{finding.rule}: {text}'))}"


def _rules(plan: Planned) -> Iterator[str]:
    unknown = list(dict.fromkeys(f.rule for f in plan.findings if f.level == "unknown"))
    later = f", {len(unknown)} cannot be asked yet ({', '.join(unknown)})" if unknown else ""
    apart = f", {len(plan.not_asked)} do not apply" if plan.not_asked else ""
    yield f"{plan.passed} rules passed{apart}{later}; {ALL} shows each"


def _actions(plan: Planned) -> Table:
    table = Table("stage", "action", "why", title=escape(one_line(f"plan of {plan.run}")))
    for stage in plan.stages:
        parts = f" ({stage.parts} chunks)" if stage.parts > 1 else ""
        table.add_row(*(escape(one_line(cell)) for cell in (stage.name + parts, stage.action, stage.why)))
    return table


def _costs(plan: Planned) -> Table:
    heads = ("stage", "time", *(["GPU-hours"] if plan.gpu_hours else []), "by")
    table = Table(*heads, title="cost of what is left")
    for stage in (stage for stage in plan.stages if not stage.settled):
        hours = [_hours(stage.gpu_hours) if stage.gpu_hours else ""] if plan.gpu_hours else []
        table.add_row(escape(one_line(stage.name)), _time(stage), *hours, escape(one_line(stage.basis)))
    return table


def _time(stage: PlannedStage) -> str:
    if stage.seconds is None:
        return "not known"
    each = f"{stage.parts} x " if stage.parts > 1 else ""
    return each + duration(stage.seconds)


def duration(seconds: Span) -> str:
    """In the unit of the middle value, as in "35 min (20 to 60)"."""
    size, name = next((s, n) for s, n in ((3600, "h"), (60, "min"), (1, "s")) if seconds.middle >= 1.5 * s or s == 1)
    low, middle, high = (value / size for value in (seconds.low, seconds.middle, seconds.high))
    return f"{_number(middle)} {name} ({_number(low)} to {_number(high)})"


def _hours(hours: Span) -> str:
    return f"{_number(hours.middle)} ({_number(hours.low)} to {_number(hours.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _figures(plan: Planned) -> Iterator[str]:
    """The figures behind the hours, a line each."""
    yield f"parameters: {plan.parameters / 1e6:,.1f} M" if plan.parameters else f"parameters: {KNOWN_LATER}"
    for one in plan.sampling:
        tokens = "known after problems" if one.tokens_at_most is None else f"{one.tokens_at_most:,} tokens at most"
        answers = "" if one.answers is None else f" in {one.answers:,} answers"
        layout = f"; TP {one.tensor_parallel} x {one.copies}" if one.tensor_parallel else ""
        speed = (
            f", {one.tokens_per_second:,.0f} tokens/s, {one.in_flight:.0f} answers at a time"
            if one.tokens_per_second and one.in_flight
            else f"; {one.unknown}"
        )
        yield escape(one_line(f"{one.stage}: {tokens}{answers}{layout}{speed}"))
    yield from _training(plan)


def _training(plan: Planned) -> Iterator[str]:
    own = plan.training
    if own is None:
        return
    yield f"train: about {own.tokens_per_step:,} tokens in {own.packs_per_step} packs per step, " + (
        f"{own.operations:.2e} operations ({own.formula})" if own.operations else f"operations: {KNOWN_LATER}"
    )
    sizes = {f"memory of {own.memory_of}": own.memory_bytes, "disk": own.disk_bytes}
    more = {"host memory of the optimizer, per node": own.host_bytes, "written by saves": own.written_bytes}
    sizes |= {name: size for name, size in more.items() if size is not None}
    yield "train: " + ", ".join(f"{name} {_size(size)}" for name, size in sizes.items())
    if own.overrides:
        yield escape(one_line(f"train.overrides: {', '.join(f'{k}={v}' for k, v in own.overrides.items())}"))


def _size(num_bytes: float | None) -> str:
    return KNOWN_LATER if num_bytes is None else f"{num_bytes / GIB:,.1f} GiB"


def _suggestions(plan: Planned) -> Iterator[str]:
    """A line each, so that the overrides can be copied."""
    for one in plan.suggestions:
        memory = "" if one.memory_bytes is None else f", {one.memory_bytes / GIB:.1f} GiB of each"
        size = f"{duration(one.seconds)} per job on {one.num_gpus} GPUs{memory}; {one.figures}"
        overrides = " ".join(one.overrides) or "(as configured)"
        yield escape(one_line(f"best for {one.stage}: {_hours(one.gpu_hours)} GPU-hours, {size}: {overrides}"))


def _summary(plan: Planned) -> str:
    left = [stage for stage in plan.stages if not stage.settled]
    found = [f"{plan.errors} error{'s' * (plan.errors != 1)}"] if plan.errors else []
    found += [f"{plan.warnings} warning{'s' * (plan.warnings != 1)}"] if plan.warnings else []
    cost = f", {_hours(plan.gpu_hours)} GPU-hours" if plan.gpu_hours else ""
    unknown = [stage.name for stage in left if stage.seconds is None]
    time = f", {duration(plan.seconds)} one after another" if plan.seconds else ""
    more = f" without {', '.join(unknown)}" if unknown and (cost or time) else ""
    state = "[red]cannot run[/]: " if plan.errors else "[green]ready[/]: "
    text = f"{', '.join([*found, f'{len(left)} of {len(plan.stages)} stages to do'])}{cost}{time}{more}"
    return state + escape(one_line(text))
