"""Checks of single config values, and what of a config decides a result."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import field
from typing import Any

from nemo_cot.errors import UserError

_RUNTIME = "runtime"
_SPELLED_OUT = re.compile(r"\\n(?![a-z]|Left|Right|V[Dd])")
"""Not the commands of LaTeX that begin so: neq, nabla, nRightarrow, nVdash, ..."""


def runtime() -> Any:
    """A required field that takes no part in the fingerprint."""
    return field(metadata={_RUNTIME: True})


def fingerprinted(config: Any) -> Any:
    """``config`` as plain dicts and lists, without the ``runtime()`` fields."""
    if dataclasses.is_dataclass(config):
        return {
            f.name: fingerprinted(getattr(config, f.name))
            for f in dataclasses.fields(config)
            if not f.metadata.get(_RUNTIME)
        }
    if isinstance(config, (list, tuple)):
        return [fingerprinted(item) for item in config]
    return config


def one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    """Raise UserError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise UserError(
            f"{value!r} is not one of {', '.join(allowed)}", where=key, fix=f"choose one for {key}"
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
