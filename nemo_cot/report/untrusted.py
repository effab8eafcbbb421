"""Text from models, files and configs, made harmless for the format that shows it."""

from __future__ import annotations

import re


def markdown_cell(value: object) -> str:
    """Untrusted text as inert Markdown on one line, also in a table."""
    flat = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&$-])", r"\\\1", flat)


def plain(text: str) -> str:
    """Without control characters, terminal escapes among them; line breaks and tabs stay."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def fenced(text: str) -> str:
    """Untrusted text as a code block with a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def visible(text: str) -> str:
    """Control characters, terminal escapes and marks of direction among them, spelled out; line breaks and
    tabs stay.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
