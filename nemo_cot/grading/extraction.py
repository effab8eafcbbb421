# ruff: noqa: RUF001  (the signs of mathematics are meant as they stand)
"""Find the final answer in a model's text."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from nemo_cot.grading.answers.canonical import canonical_key
from nemo_cot.grading.answers.latex_text import with_backslashes

FALLBACKS = ("none", "phrase", "last_number")
THOUGHTS = ("last_resort", "ignore")

_BOX = re.compile(r"\\f?box(?:ed)?(?![a-zA-Z])")
_OPEN_BOX = re.compile(_BOX.pattern + r"\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(
    r"\s*(\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)|\\sqrt\s*\{[^{}]*\}|"
    r"[-+]?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?![\w\\^])|[a-zA-Z](?![a-zA-Z])|\\(?:pi|infty|emptyset)(?![a-zA-Z]))"
)
PHRASE = re.compile(
    r"\b(?:final\s+)?answer\b(?:\s{1,9}(?:to|for)\b[^.\n]{0,80}?)?"
    r"(?:\s{0,9}(?:(?:\*\*|__)\s{0,9})?[:=]|\s{1,9}(?:is|equals|must\s{1,9}be|would\s{1,9}be|=))\s{0,9}[:=]?\s{0,9}"
    r"|(?:\*\*|__|^\#{1,6}\s{0,3})(?:the\s)?(?:final\s)?answer\s?(?:\*\*|__)?\s{0,3}\n\s{0,9}"
    r"|^\#{4}\s{0,9}(?=[-+$\\(\d])|<answer>\s{0,9}|答案\s{0,3}(?:是|为|：|:)\s{0,9}[:：]?\s{0,9}",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:\s*/\s*\d+)?%?")
_MATH_SPAN = re.compile(r"\s*(?:\*\*)?\s*(\$\$.+?\$\$|\$.+?\$|\\\(.+?\\\)|\\\[.+?\\\])", re.DOTALL)
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n|</answer>|[。，]")
_PHRASE_WINDOW = 400
"""Characters after "the answer is" that are looked at: an answer longer than this is prose."""

PLACEHOLDER = re.compile(
    r"[\s{}<\[.]*(?:\\(?:text|mathrm|mathbf|textbf)\s?\{\s?)?(?:(?:your|the|my|final|correct)[\s_-]?){0,3}"
    r"(?:answer|ans|result|solution|\.\.\.|…|\\[lc]?dots|\\square|\?{1,3}|_{1,9})(?:[\s_-]?here)?[\s{}>\].]*",
    re.IGNORECASE,
)
"""What a box holds that repeats the format that was asked for: ``in the form \\boxed{answer}``."""

_JOINT = re.compile(
    r"(?:[\s$*,;]|\\[()\[\],;: ]|\\q?quad|\\text\s?\{\s?(?:and|or)\s?\}|(?:and|or)\b"
    r"|(?<![A-Za-z])\\?[A-Za-z]+(?:_\{?\w\}?|\([a-z\d]\))?\s?=)+"
)
"""What may stand between the boxes of one answer: ``$x=\\boxed{3}$ and $y=\\boxed{4}$``."""

_NAME = re.compile(r"(\\?[A-Za-z]+(?:_\{?\w\}?|\([a-z\d]\))?)\s?=\s?$")
_MAX_JOINT, _MAX_BOXES = 60, 12


@dataclass(frozen=True)
class Extraction:
    """What was found: ``answer`` and where (``source``), or None and ``reason``, why nothing was.

    ``source`` is "boxed", "phrase" ("the answer is ...") or "last_number" (of other scorers: "last_line").
    """

    answer: str | None
    source: str | None
    reason: str


def extract(
    text: str, *, fallback: str, thoughts: str = THOUGHTS[0], find: Callable[[str, str], Extraction] | None = None
) -> Extraction:
    r"""Final answer of ``text``: the last complete, non-empty ``\boxed`` or ``\fbox``, with the boxes that
    share its sentence; a box that only repeats the format (``\boxed{answer}``) is passed over.

    ``fallback`` says what counts when there is no box: "none", "phrase" ("the answer is ...", a
    heading, ``#### 24``, ``<answer>``), or "last_number" (the phrase, then the last number). What
    follows ``</think>`` comes first; ``thoughts`` says whether an answer inside counts where none
    follows: "last_resort", or "ignore". ``find``: another way to look for it, of (text, fallback). Time is linear in
    the text. Raises ValueError for other options.
    """
    if fallback not in FALLBACKS:
        raise ValueError(f"fallback is {fallback!r}; it must be one of {', '.join(FALLBACKS)}")
    if thoughts not in THOUGHTS:
        raise ValueError(f"thoughts is {thoughts!r}; it must be one of {', '.join(THOUGHTS)}")
    find = find or _extract
    inside, outside = _thoughts(with_backslashes(text))
    found = find(outside, fallback)
    if found.answer is None and inside and thoughts == "last_resort":
        last = find(inside, fallback)
        return last if last.answer is not None or not outside.strip() else found
    return found


def _thoughts(text: str) -> tuple[str, str]:
    """What stands in <think>, and what stands outside: behind it, or before one that is not closed."""
    end = text.rfind("</think>")
    if end >= 0:
        return text[:end], text[end + len("</think>") :]
    start = text.find("<think>")
    return (text[start + len("<think>") :], text[:start]) if start >= 0 else ("", text)


def _extract(text: str, fallback: str) -> Extraction:
    answer, reason = last_box(text)
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


def boxes(text: str) -> list[tuple[int, int]]:
    r"""Where the content of each complete, non-empty ``\boxed{...}`` or ``\fbox{...}`` begins and ends, in order."""
    opened = [match.end() for match in _OPEN_BOX.finditer(text)]
    closing = _matching_braces(text, opened[0] - 1) if opened else {}
    return [(at, closing[at - 1]) for at in opened if at - 1 in closing and text[at : closing[at - 1]].strip()]


def last_box(text: str) -> tuple[str | None, str]:
    """Content of the last good boxes and "", or None and why."""
    starts = list(_BOX.finditer(text))
    if not starts:
        return None, "empty text" if not text.strip() else "no box"
    closing = _matching_braces(text, starts[0].start())
    reason = ""
    for place in range(len(starts) - 1, -1, -1):
        content, _, problem = _box_content(text, starts[place].end(), closing)
        if content and PLACEHOLDER.fullmatch(content):
            problem = "a box for the answer, without it"
        elif content and not _BOX.match(content):  # a box around nothing but an empty box
            return _with_its_sentence(text, starts[: place + 1], closing, content), ""
        reason = reason or problem or "empty box"
    return None, reason


def _with_its_sentence(text: str, starts: list[re.Match[str]], closing: dict[int, int], content: str) -> str:
    """The last box, and before it those that nothing but names, commas and "and" part from it."""
    last, parts = content, [_named(text, starts[-1].start(), content)]
    for before, after in list(pairwise(starts))[:-_MAX_BOXES:-1]:
        content, end, _ = _box_content(text, before.end(), closing)
        between = text[end : after.start()][: _MAX_JOINT + 1] if content else ""
        if (
            len(between) > _MAX_JOINT
            or not _JOINT.fullmatch(between)
            or not re.search(r"[,;]|and|or", between)
        ):
            break
        parts[:0] = [_named(text, before.start(), content), r" \text{ or } " if "or" in between else ", "]
    if (
        len({canonical_key(p.split("\0")[-1]) for p in parts[::2]}) == 1
    ):  # alone, or the same twice: 1/2 or 0.5
        return last
    return "".join(p.replace("\0", "=") for p in parts)


def _named(text: str, start: int, content: str) -> str:
    """``content`` behind the name that it is said to be the value of, with a zero byte between."""
    name = _NAME.search(text[max(0, start - 30) : start])
    return f"{name.group(1)}\0{content}" if name and "=" not in content else content


def _box_content(text: str, position: int, closing: dict[int, int]) -> tuple[str | None, int, str]:
    r"""Content and end of the box whose command ends at ``position``: a group, or the token after ``\boxed``."""
    start = position
    while start < len(text) and text[start].isspace():
        start += 1
    if start < len(text) and text[start] == "{":
        if start not in closing:
            return None, start, "unclosed box"
        content = text[start + 1 : closing[start]].strip()
        return content or None, closing[start] + 1, "" if content else "empty box"
    bare = _BARE.match(text, position, position + 200)
    return (bare.group(1), bare.end(), "") if bare else (None, start, "empty box")


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
    for match in reversed(deque(PHRASE.finditer(text), maxlen=5)):
        tail = text[match.end() : match.end() + _PHRASE_WINDOW]
        span = _MATH_SPAN.match(tail)
        if span:
            return span.group(1).strip()
        end = SENTENCE_END.search(tail)
        answer = (tail[: end.start()] if end else tail).strip().strip("*_` ").strip()
        if answer:
            return answer
    return None


def _last_number(text: str) -> str | None:
    """The last number of the text, with sign, thousands marks and denominator as written."""
    last = deque(_NUMBER.finditer(text), maxlen=1)
    return last[0].group().replace("−", "-") if last else None
