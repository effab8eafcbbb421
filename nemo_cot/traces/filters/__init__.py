"""Filters of traces: one file per filter, nemo_cot/traces/filters/NAME.py, found by its name in
curate.filters.

Each file defines a frozen dataclass ``Filter`` whose fields are the filter's keys (with defaults if
sensible), and a method ``drops(trace, length)``, which returns whether the trace is dropped, or the reason
that it is counted under in place of the filter's name. One that needs more than the trace has
``bind(context)`` instead, which returns that function. See docs/extending.md.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from nemo_cot.errors import UserError
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


def filter_names() -> list[str]:
    """The names of all filters, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_filters(chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The filters that curate.filters names, with their values, in that order.

    Raises UserError for an unknown filter, key or value.
    """
    return {name: _load(name, values) for name, values in chosen.items()}


def bound(filters: Mapping[str, Any], context: Context) -> dict[str, Drops]:
    """What each of the filters drops, by its name."""
    return {name: f.bind(context) if hasattr(f, "bind") else f.drops for name, f in filters.items()}


def _load(name: str, values: Mapping[str, Any]) -> Any:
    key = f"curate.filters.{name}"
    if name not in filter_names():
        raise UserError("there is no such filter", where=key, fix=f"choose among {', '.join(filter_names())}")
    if not isinstance(values, Mapping):
        raise UserError(
            f"{values!r} is not a group of keys", where=key, fix=f"set its keys, as in {key}.KEY=VALUE"
        )
    kind = importlib.import_module(f"{__name__}.{name}").Filter
    fields = [field.name for field in dataclasses.fields(kind)]
    if unknown := [own for own in values if own not in fields]:
        raise UserError("unknown key", where=f"{key}.{unknown[0]}", fix=f"it has {', '.join(fields)}")
    try:
        return msgspec.convert(dict(values), kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise UserError(
            f"{error}", where=key, fix=f"set {' and '.join(f'{key}.{own}' for own in fields)}"
        ) from None
