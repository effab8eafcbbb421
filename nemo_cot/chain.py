"""The chain: its stages in order, and the file that says how they ended. Standard library only."""

from __future__ import annotations

STAGES = (
    "problems",
    "convert",
    "generate",
    "grade",
    "curate",
    "pack",
    "hf_to_nemo",
    "train",
    "nemo_to_hf",
    "evaluate",
    "report",
)
"""A stage's name is also that of its recipe, recipes/NAME.py."""

CHAIN_FILE = "chain.json"
"""In the run directory, by every launcher: how each stage of the last chain ended."""
