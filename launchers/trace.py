"""nemo-cot trace: the way of one trace, from its problem and teacher to the training."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nemo_cot.errors import one_line
from nemo_cot.launchers.finished import Arguments, open_run
from nemo_cot.report.collect import read_manifests
from nemo_cot.report.untrusted import visible
from nemo_cot.stages.manifest import flatten
from nemo_cot.traces.history import Station, find_trace, history

USAGE = "RUN ID[:SAMPLE] [runs_dir=DIR]"
_LONG = 200
"""Characters of a value that is shown on its line, and of a line of text that is cut into sentences for a
diff.
"""
_SHOWN = ("teacher.", "pass.", "curate.filters.", "transform.")
"""Which of a stage's config is shown: what made a trace, changed it or let it pass."""
_TEXTS = ("generation", "problem", "input_ids")
_SENTENCE = re.compile(r"[^.!?\n]*[.!?\n]+\s*|[^.!?\n]+")


def trace_command(arguments: Sequence[str]) -> int:
    """Print, stage by stage, where the trace stands, what the stage's config says, what it appended to the
    lineage, and the text: whole at first, then as a diff. Raises UserError for what is not there.
    """
    parser = Arguments("trace", USAGE)
    parser.add_argument("trace")
    given = parser.read(arguments)
    run = open_run(given.run, given.runs_dir)
    manifests = read_manifests(run)
    problem_id, sample = find_trace(run, manifests, given.trace)
    stations = history(run, manifests, problem_id, sample)
    print(one_line(f"problem {problem_id}, sample {sample}, in {run.path}"))
    for line in history_text(stations, colour=sys.stdout.isatty()):
        print(line)
    return 0


def history_text(stations: Sequence[Station], *, colour: bool) -> Iterator[str]:
    """The lines that show the stations, harmless for a terminal."""
    before, stage, steps = None, "", [s for s in stations if "step" in s.values]
    for station in stations:
        if "step" in station.values and station not in (steps[0], steps[-1]):
            continue  # of a training the first and the last step
        if station.stage != stage:
            stage = station.stage
            yield ""
            yield _heading(station)
        yield _line(
            f"  {station.file}, line {station.line}",
            {k: v for k, v in station.new.items() if k not in _TEXTS},
        )
        for step in station.steps:
            yield _line("    lineage", step)
        if "problem" in station.new:
            yield from _indented(str(station.values["problem"]))
        if station.text is not None and station.text != before:
            yield from _indented(station.text) if before is None else _diff(before, station.text, colour)
            before = station.text


def _heading(station: Station) -> str:
    """The stage, its seeds, and what of its config decides about its rows."""
    manifest = station.manifest
    config = {k: v for k, v in flatten(manifest.config).items() if k.startswith(_SHOWN)}
    reused = f", reused from {manifest.reused_from}" if manifest.reused_from else ""
    return _line(f"{station.stage}: {manifest.finished_at}{reused}", {**manifest.seeds, **config})


def _line(start: str, values: Mapping[str, Any]) -> str:
    shown = "; ".join(f"{name} {_short(value)}" for name, value in values.items() if value is not None)
    return visible(start) + (f": {one_line(shown)}" if shown else "")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}... ({len(text)} characters)"


def _indented(text: str) -> Iterator[str]:
    yield from (f"    | {line}" for line in visible(text).split("\n"))


def _diff(before: str, after: str, colour: bool) -> Iterator[str]:
    """What was taken away and what came, with a line around."""
    yield f"    the text was changed: {len(before)} to {len(after)} characters"
    paint = {"-": "\x1b[31m", "+": "\x1b[32m"} if colour else {}
    for line in list(difflib.unified_diff(_pieces(before), _pieces(after), n=1, lineterm=""))[2:]:
        start = paint.get(line[0], "")
        yield f"    {start}{visible(line)}" + ("\x1b[0m" if start else "")


def _pieces(text: str) -> list[str]:
    """Lines; long ones by sentence."""
    lines = text.split("\n")
    return [piece for line in lines for piece in (_SENTENCE.findall(line) if len(line) > _LONG else [line])]
