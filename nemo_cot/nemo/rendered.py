"""A rendered backend config as YAML text. PyYAML comes with Hydra; it is imported here alone."""

from __future__ import annotations

from typing import Any


def to_yaml(rendered: dict[str, Any]) -> str:
    """YAML with the keys in the order in which they were rendered; floats keep all their digits."""
    import yaml

    return yaml.safe_dump(rendered, sort_keys=False, allow_unicode=True, width=10_000)
