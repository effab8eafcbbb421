# ruff: noqa: RUF001  (the signs of mathematics are meant as they stand)
"""Find the final answer in a model's text."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

FALLBACKS = ("none", "phrase", "last_number")

_BOX = re.compile(r"\\f?box(?:ed)?(?![a-zA-Z])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(
    r"\s*(\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)|\\sqrt\s*\{[^{}]*\}|"
    r"[-+]?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?![\w\\^])|[a-zA-Z](?![a-zA-Z])|\\(?:pi|infty|emptyset)(?![a-zA-Z]))"
)
_PHRASE = re.compile(
    r"\b(?:final\s+)?answer\b(?:\s{1,9}(?:to|for)\b[^.\n]{0,80}?)?"
    r"(?:\s{0,9}(?:(?:\*\*|__)\s{0,9})?[:=]|\s{1,9}(?:is|equals|must\s{1,9}be|would\s{1,9}be|=))\s{0,9}[:=]?\s{0,9}",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:\s*/\s*\d+)?%?")
_MATH_SPAN = re.compile(r"\s*(?:\*\*)?\s*(\$\$.+?\$\$|\$.+?\$|\\\(.+?\\\)|\\\[.+?\\\])", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_PHRASE_WINDOW = 400
"""Characters after "the answer is" that are looked at: an answer longer than this is prose."""


@dataclass(frozen=True)
class Extraction:
    """What was found: ``answer`` and where (``source``), or None and ``reason``, why nothing was.

    ``source`` is "boxed", "phrase" ("the answer is ...") or "last_number".
    """

    answer: str | None
    source: str | None
    reason: str


def extract(text: str, *, fallback: str) -> Extraction:
    r"""Final answer of ``text``: the last complete, non-empty ``\boxed`` or ``\fbox``.

    ``fallback`` says what counts when there is no box: "none", "phrase" ("the answer is ..."),
    or "last_number" (the phrase, then the last number). Time is linear in the text.
    Raises ValueError for another fallback.
    """
    if fallback not in FALLBACKS:
        raise ValueError(f"fallback is {fallback!r}; it must be one of {', '.join(FALLBACKS)}")
    answer, reason = _last_box(text)
    if answer is not None:
        return Extraction(answer, "boxed", "")
    if fallback != "none":
        answer = _after_phrase(text)
        if answer:
            return Extraction(answer, "phrase", "")
        reason += "; no phrase like 'the answer is'"
    if fallback == "last_number":
        answer = _last_number(text)
        if answer:
            return Extraction(answer, "last_number", "")
        reason += "; no number"
    return Extraction(None, None, reason)


def extract_answer(text: str) -> str | None:
    r"""Content of the last complete, non-empty ``\boxed`` or ``\fbox`` of ``text``, or None."""
    return extract(text, fallback="none").answer


def _last_box(text: str) -> tuple[str | None, str]:
    """Content of the last good box and "", or None and why."""
    starts = list(_BOX.finditer(text))
    if not starts:
        return None, "empty text" if not text.strip() else "no box"
    closing = _matching_braces(text, starts[0].start())
    reason = ""
    for match in reversed(starts):
        content, problem = _box_content(text, match.end(), closing)
        if content and not _BOX.match(content):  # a box around nothing but an empty box
            return content, ""
        reason = reason or problem or "empty box"
    return None, reason


def _box_content(text: str, position: int, closing: dict[int, int]) -> tuple[str | None, str]:
    r"""Content of the box whose command ends at ``position``: a group, or the token after ``\boxed``."""
    start = position
    while start < len(text) and text[start].isspace():
        start += 1
    if start < len(text) and text[start] == "{":
        if start not in closing:
            return None, "unclosed box"
        content = text[start + 1 : closing[start]].strip()
        return (content, "") if content else (None, "empty box")
    bare = _BARE.match(text, position, position + 200)
    return (bare.group(1), "") if bare else (None, "empty box")


def _matching_braces(text: str, start: int) -> dict[int, int]:
    """Position of the closing brace for each group opened at or after ``start``, in one pass."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for match in _BRACE.finditer(text, start):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            closing[opened.pop()] = match.start()
    return closing


def _after_phrase(text: str) -> str | None:
    """What follows the last "the answer is": a formula, or the rest of the sentence."""
    last = _last(_PHRASE, text)
    if last is None:
        return None
    tail = text[last.end() : last.end() + _PHRASE_WINDOW]
    span = _MATH_SPAN.match(tail)
    if span:
        return span.group(1).strip()
    end = _SENTENCE_END.search(tail)
    answer = tail[: end.start()] if end else tail
    return answer.strip().strip("*_` ").strip() or None


def _last_number(text: str) -> str | None:
    """The last number of the text, with sign, thousands marks and denominator as written."""
    last = _last(_NUMBER, text)
    return last.group().replace("−", "-") if last else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match, without keeping the others."""
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None
