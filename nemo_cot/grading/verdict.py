"""What a grader says about one answer, and which grader said it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

RULES_VERSION = "4"
"""Raise it with every change that can move a verdict: caches and regrading go by it."""

RIGHT, WRONG, UNDECIDED = "right", "wrong", "undecided"


@dataclass(frozen=True)
class Verdict:
    """``outcome`` is "right", "wrong" or "undecided"; ``reason`` is an id, then ": " and detail.

    "undecided" means that no trustworthy statement could be made (a gold that is text, an
    answer too large to evaluate, a deadline), never that the answer looked wrong.
    """

    outcome: str
    reason: str


@lru_cache(maxsize=1)
def grader_version() -> str:
    """Version of the rules and of the libraries that decide what the rules leave open."""
    parts = [f"nemo-cot {RULES_VERSION}"]
    for package in ("math-verify", "latex2sympy2-extended", "sympy"):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} absent")
    return ", ".join(parts)
