"""The chain: which recipes there are, and which stages each one needs."""

from __future__ import annotations

NEEDS: dict[str, tuple[str, ...]] = {
    "problems": (),
    "convert": (),
    "generate": ("problems", "convert"),
    "grade": ("generate",),
    "curate": ("grade", "convert"),
    "pack": ("curate", "convert"),
    "train": ("pack", "convert"),
    "evaluate": ("problems", "train"),
    "report": (),
}
"""A recipe's own name is also its module, recipes.NAME. The report needs nothing: it tells what failed."""
