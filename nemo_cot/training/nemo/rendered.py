"""A backend config as YAML text, there and back. PyYAML comes with Hydra; it is imported here alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_cot.errors import UserError


def overridden(rendered: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``rendered`` with the values of train.overrides (dotted key -> value) laid over it. Raises UserError for a
    key below one that holds a value.
    """
    for key, value in overrides.items():
        *parents, last = key.removeprefix(ADDED).split(".")
        node = rendered
        for number, parent in enumerate(parents, start=1):
            if node.get(parent) is None:
                node[parent] = {}
            node = node[parent]
            if not isinstance(node, dict):
                place = ".".join(parents[:number])
                raise UserError(
                    f"{place} holds {node!r}, and no keys", where=f"train.overrides.{key}", fix=f"set {place} itself"
                )
        node[last] = value
    return rendered


ADDED = "+"
"""Before a key of train.overrides: it is meant, though the backend's list of keys does not have it."""


def to_yaml(rendered: dict[str, Any]) -> str:
    """YAML with the keys in the order in which they were rendered; floats keep all their digits."""
    import yaml

    return yaml.safe_dump(rendered, sort_keys=False, allow_unicode=True, width=10_000)


def from_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, without any tag that could build an object. Raises UserError."""
    import yaml

    try:
        return dict(yaml.safe_load(path.read_bytes()))
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"not a YAML mapping ({error})", where=str(path), fix="write it again") from None
