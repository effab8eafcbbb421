"""What guessing gets right: of a problem with options to choose from."""

from __future__ import annotations

from typing import Any


def chance_of(row: Any) -> float | None:
    """1 / number of the options of the row's problem (scorer_data); None for a problem without options."""
    options = (getattr(row, "scorer_data", None) or {}).get("options")
    return 1 / len(options) if options else None
