"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path


def user_path(text: str) -> Path:
    """``text`` as a path, with a leading ~ expanded. Relative paths stay relative to the command."""
    return Path(text).expanduser()
