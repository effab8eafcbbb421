"""Filters of traces: one file per filter, nemo_cot/traces/filters/NAME.py, found by its name in
curate.filters.

Each file defines a frozen dataclass ``Filter`` whose fields are the filter's keys (with defaults if
sensible), and a method ``drops(trace, length)``, which returns whether the trace is dropped, or the reason
that it is counted under in place of the filter's name. One that needs more than the trace has
``bind(context)`` instead, which returns that function. See docs/extending.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nemo_cot.named import load_named
from nemo_cot.records import Problem, Trace

if TYPE_CHECKING:
    from nemo_cot.traces.marks import Marks
    from nemo_cot.traces.structure import View

Drops = Callable[[Trace, int], "bool | str"]
"""(trace, length in the student's tokens): whether the trace is dropped, or why."""


@dataclass
class Context:
    """What a filter may need beside the trace. ``heldout``: the evaluation problems, read only where a filter
    has ``needs_heldout = True``; one that reads ``marks`` has ``needs_marks = True``. (``packages``: modules
    beyond the core that a filter imports, and what pip installs them with.)
    """

    marks: Marks | None = None
    heldout: Sequence[Problem] = ()
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _last: tuple[Trace, View] | None = None

    def show(self, key: str, row: dict[str, Any]) -> None:
        """Put ``row`` into flagged.jsonl, for the user to look at; of rows with the same ``key`` the first."""
        if key not in self._seen:
            self._seen.add(key)
            self.shown[key] = row

    def view(self, trace: Trace, length: int) -> View:
        """The trace with its steps and words, computed once for all filters and measures."""
        if self._last is None or self._last[0] is not trace:
            from nemo_cot.traces.structure import View

            assert self.marks is not None
            self._last = trace, View(trace, self.marks, length)
        return self._last[1]


def load_filters(chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The filters that curate.filters names, with their values, in that order.

    Raises UserError for an unknown filter, key or value.
    """
    package = sys.modules[__name__]
    return {
        name: load_named(package, "Filter", name, values, key=f"curate.filters.{name}", what="filter")
        for name, values in chosen.items()
    }


def bound(filters: Mapping[str, Any], context: Context) -> dict[str, Drops]:
    """What each of the filters drops, by its name."""
    return {name: f.bind(context) if hasattr(f, "bind") else f.drops for name, f in filters.items()}
