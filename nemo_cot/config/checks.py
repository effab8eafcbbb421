"""Checks of single config values, and what of a config decides a result."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from nemo_cot.errors import UserError

_RUNTIME, _BEFORE = "runtime", "before"
_SPELLED_OUT = re.compile(r"\\n(?![a-z]|Left|Right|V[Dd])")
"""Not the commands of LaTeX that begin so: neq, nabla, nRightarrow, nVdash, ..."""


def runtime() -> Any:
    """A required field that takes no part in the fingerprint."""
    return field(metadata={_RUNTIME: True})


def added(before: Any) -> Any:
    """A required field that is younger than finished stages. The value ``before`` means what was done without it;
    where several do, ``before`` is a function that picks them out (of plain dicts and lists).

    While it has that value, :func:`fingerprinted` leaves it out, so that a stage that finished before the key
    came stays valid; any other value replaces the stage. This is the one place where that is settled: mark
    the field, write ``before`` into conf, and nothing else. A group of such fields is ``added({})`` itself.
    """
    return field(metadata={_BEFORE: before})


def fingerprinted(config: Any) -> Any:
    """``config`` as plain dicts and lists, without the ``runtime()`` fields and what is as it was before :func:`added`."""
    if dataclasses.is_dataclass(config):
        fields = {f.name: f.metadata for f in dataclasses.fields(config) if not f.metadata.get(_RUNTIME)}
        plain = {name: fingerprinted(getattr(config, name)) for name in fields}
        return {name: v for name, v in plain.items() if not _as_before(v, fields[name])}
    if isinstance(config, (list, tuple)):
        return [fingerprinted(item) for item in config]
    return config


def _as_before(value: Any, metadata: Mapping[str, Any]) -> bool:
    """Whether a field marked with :func:`added` has a value that means what was done without it."""
    if _BEFORE not in metadata:
        return False
    before = metadata[_BEFORE]
    return before(value) if callable(before) else value == before


def one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    """Raise UserError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise UserError(
            f"{value!r} is not one of {', '.join(allowed)}", where=key, fix=f"choose one for {key}"
        )


def some_of(key: str, values: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise UserError unless ``values`` are one or more of ``allowed``, each once."""
    for value in values:
        one_of(key, value, allowed)
    if not values or len(set(values)) != len(values):
        raise UserError(
            f"{list(values)} is empty or repeats",
            where=key,
            fix=f"name at least one, each once: {', '.join(allowed)}",
        )


def at_least(key: str, value: float, least: float, *, than: str = "") -> None:
    """Raise UserError unless ``value`` >= ``least`` (the value of the key ``than``, if named). NaN fails."""
    if not value >= least:
        raise UserError(
            f"{value} is below {than + ' = ' if than else ''}{least}",
            where=key,
            fix=f"set {key} to {least} or more",
        )


def seed(key: str, value: int) -> None:
    """Raise UserError unless ``value`` is a seed that every random generator takes: 0 to 2^31 - 1."""
    between(key, value, 0, 2**31 - 1)


def between(key: str, value: float, low: float, high: float) -> None:
    """Raise UserError unless ``low`` <= ``value`` <= ``high``. NaN fails."""
    if not low <= value <= high:
        raise UserError(f"{value} is not between {low} and {high}", where=key, fix=f"correct {key}")


def holds_problem(key: str, prompt: str) -> None:
    """Raise UserError unless ``prompt`` holds {problem} once, or when a line break in it is spelled out."""
    if prompt.count("{problem}") != 1:
        raise UserError("must hold {problem} exactly once", where=key, fix=f"correct {key}")
    if _SPELLED_OUT.search(prompt):
        raise UserError(
            r"holds a backslash and an n, where a line break must be meant",
            where=key,
            fix=rf"""write line breaks as bash reads them, $'{key}="Question: {{problem}}\nAnswer: "', """
            "or in a file of conf in double quotes",
        )


def plain_name(key: str, name: str, *, taken: Iterable[str]) -> None:
    """Raise UserError unless ``name`` can be a folder's: letters, digits, _ and -, and none of ``taken``."""
    plain = name.replace("_", "").replace("-", "")
    if not plain.isalnum() or not plain.isascii() or name.startswith("-") or name in taken:
        raise UserError(
            f"{name!r} is not a plain name, or means something else",
            where=key,
            fix="use letters, digits, '_' and '-', such as qwen_math_72b",
        )
