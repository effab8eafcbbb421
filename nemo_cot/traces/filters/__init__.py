"""Filters of traces: one file per filter, nemo_cot/traces/filters/NAME.py, found by its name in curate.filters.

Each file defines a frozen dataclass ``Filter`` whose fields are the filter's keys (with defaults if
sensible), and a method ``drops(trace, length)``. See docs/extending.md.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.records import Trace

Drops = Callable[[Trace, int], bool]
"""(trace, length in the student's tokens): whether the trace is dropped."""


def filter_names() -> list[str]:
    """The names of all filters, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_filters(chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, Drops]:
    """The filters that curate.filters names, with their values, in that order.

    Raises UserError for an unknown filter, key or value.
    """
    return {name: _load(name, values).drops for name, values in chosen.items()}


def _load(name: str, values: Mapping[str, Any]) -> Any:
    key = f"curate.filters.{name}"
    if name not in filter_names():
        raise UserError("there is no such filter", where=key, fix=f"choose among {', '.join(filter_names())}")
    if not isinstance(values, Mapping):
        raise UserError(f"{values!r} is not a group of keys", where=key, fix=f"set its keys, as in {key}.KEY=VALUE")
    kind = importlib.import_module(f"{__name__}.{name}").Filter
    fields = [field.name for field in dataclasses.fields(kind)]
    if unknown := [own for own in values if own not in fields]:
        raise UserError("unknown key", where=f"{key}.{unknown[0]}", fix=f"it has {', '.join(fields)}")
    try:
        return msgspec.convert(dict(values), kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise UserError(f"{error}", where=key, fix=f"set {' and '.join(f'{key}.{own}' for own in fields)}") from None
