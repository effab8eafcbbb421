"""The tables of the algebra: signs, operators, units, prefixes, scales, things that are counted."""

from __future__ import annotations

from pathlib import Path


def table_text(name: str) -> str:
    """``name``.txt of this folder without its comments."""
    lines = (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def table(name: str) -> dict[str, str]:
    """What each name of the lines ``name other = what`` stands for."""
    rows = (line.split(" = ", 1) for line in table_text(name).splitlines())
    return {name: said for names, said in rows for name in names.split()}


def word_set(text: str) -> frozenset[str]:
    """The words of ``text``."""
    return frozenset(text.split())
