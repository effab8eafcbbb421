"""Values as Hydra's command line takes them, for the programs that read one (NeMo-Skills, our recipes)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nemo_cot.errors import UserError


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value, in order, of keys that are nested, dotted or both. An empty dict is a value."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return found


def hydra_value(value: object) -> str:
    """``value`` as an override of Hydra takes it. Raises UserError for text that it would fill in."""
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if "${" in value:
        raise UserError("holds ${, which Hydra fills in", where=value, fix="choose a name or path without it")
    return hydra_quoted(value)


def hydra_quoted(text: str) -> str:
    """``text`` in quotes of Hydra, in which a backslash counts only before a quote."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"
