"""A backend config as YAML text, there and back. PyYAML comes with Hydra; it is imported here alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nemo_cot.errors import UserError


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
