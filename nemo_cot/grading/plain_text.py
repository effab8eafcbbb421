# ruff: noqa: RUF001  (the signs are meant as they stand)
"""Answers that are words, letters or grids and not formulas: where they stand, read without markup."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from nemo_cot.grading.extraction import PHRASE, PLACEHOLDER, Extraction, last_box

MAX_CHARACTERS = 20_000
"""Of an answer: more is no answer to any of the problems that are scored here."""

_FENCE = re.compile(r"^\s*```\w*\s*$")
_SENTENCE_END = re.compile(r"(?<=[\w)\]*\"'`$]{3})[.!?](?=\s+[A-Z]|\s*$)")
"""Not behind St. or U.S., nor inside a number."""
_WRAPPED = re.compile(r"\\(?:text(?:bf|it|rm|tt|sf|normal)?|math(?:rm|bf|it|sf|tt)|emph|operatorname|boxed|fbox)\s*\{([^{}]*)\}")
_GROUP = r"(?:[^{}]|\{[^{}]*\})*"
_LATEX = (
    (re.compile(r"\\[dt]?frac\s*\{([\w.]*)\}\s*\{([\w.]*)\}"), r"\1/\2"),
    (re.compile(rf"\\[dt]?frac\s*\{{({_GROUP})\}}\s*\{{({_GROUP})\}}"), r"(\1)/(\2)"),
    (re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)"), r"\1/\2"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "×"),
    (re.compile(r"\\(?:left|right|displaystyle|quad|qquad)(?![A-Za-z])"), ""),
    (re.compile(r"\\\\"), "\n"),
    (re.compile(r"\\[,;:!> ]|~"), " "),
    (re.compile(r"\\([%$#&_{}])"), r"\1"),
)
_DELIMITERS = ("$$", "$", r"\(", r"\)", r"\[", r"\]")
_MARKS = ("**", "__", "`", "*")
_ITEM = re.compile(r"\s*[-•>*]\s+")


def find_text(
    text: str, fallback: str, said: Callable[[str], str | None] | None = None, fits: Callable[[str], bool] = bool
) -> Extraction:
    """As extraction.extract looks for a formula: the last box, <answer>...</answer>, then (``fallback`` not "none") what
    is ``said`` (None: what follows "the answer is" in its sentence, or, if that line is empty, in the lines below), then
    (``fallback`` "last_number") the last line, if it ``fits``.
    """
    answer, reason = last_box(text)
    if answer is not None:
        return Extraction(answer, "boxed", "")
    if fallback == "none":
        return Extraction(None, None, reason)
    if answer := tagged(text) or (said or _after_phrase)(text):
        return Extraction(answer, "phrase", "")
    if fallback == "last_number" and fits(answer := last_line(text)):
        return Extraction(answer, "last_line", "")
    return Extraction(None, None, f"{reason}; no phrase like 'the answer is'")


def plain(answer: str) -> str:
    r"""``answer`` without the marks around it and the LaTeX in it: ``$\text{(B)}$`` is (B), ``\frac{1}{2}`` 1/2."""
    answer = answer[:MAX_CHARACTERS]
    for _ in range(4):  # wrappers in wrappers
        answer, found = _WRAPPED.subn(r"\1", answer)
        if not found:
            break
    for pattern, into in _LATEX:
        answer = pattern.sub(into, answer)
    for mark in _DELIMITERS:
        answer = answer.replace(mark, "")
    return unmarked(answer)


def bare(found: Extraction) -> Extraction:
    """With a :func:`plain` answer; without one, if nothing but markup was found."""
    if found.answer is None:
        return found
    text = plain(found.answer)
    return replace(found, answer=text) if text else Extraction(None, None, "nothing but markup")


def unmarked(answer: str) -> str:
    """Without Markdown around it, and the lines of a code fence."""
    lines = [line for line in answer.split("\n") if not _FENCE.match(line)]
    text = "\n".join(lines).strip()
    for mark in _MARKS:
        if text.count(mark) in (1, 2):  # around it, or one half of a pair; not a grid of stars
            text = text.removeprefix(mark).removesuffix(mark).strip()
    return text


def tagged(text: str) -> str:
    """What stands between the last <answer> and </answer>."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    inside = text[start + len("<answer>") : end].strip() if start >= 0 else ""
    return "" if PLACEHOLDER.fullmatch(inside) else inside


def behind(text: str, position: int) -> str:
    """What follows "the answer is", which ends at ``position``: the rest of the sentence, or the lines below."""
    window = text[position : position + MAX_CHARACTERS]
    before = text[max(0, position - 20) : position]
    if "\n" in before[len(before.rstrip()) :]:
        return _block(window)
    line, _, below = window.partition("\n")
    if (said := unmarked(line)) and not said.endswith(":"):
        end = _SENTENCE_END.search(line)
        return unmarked(line[: end.start()] if end else line)
    return _block(below)


def last_line(text: str) -> str:
    """The last line that is not blank, as an answer."""
    lines = text[-MAX_CHARACTERS:].split("\n")
    line = next((line for line in reversed(lines) if unmarked(line)), "")
    return unmarked(_ITEM.sub("", line, count=1) if _ITEM.match(line) else line).rstrip(".")


def _after_phrase(text: str) -> str:
    ends = [match.end() for match in deque(PHRASE.finditer(text), maxlen=5)]
    return next((answer for end in reversed(ends) if (answer := behind(text, end))), "")


def _block(text: str) -> str:
    """The first lines of ``text`` up to a blank one, or all that stands in a code fence."""
    lines: list[str] = []
    fenced = False
    for line in text.split("\n"):
        if _FENCE.match(line):
            if fenced or lines:
                break
            fenced = True
        elif line.strip() or (fenced and lines):
            lines.append(line)
        elif lines:
            break
    return unmarked("\n".join(lines))
