r"""Cut a trace into steps and sentences: the one place where that is decided. Nothing is lost: ``"".join``
gives the text.

A step begins
- at a paragraph (behind a blank line), unless it opens with displayed mathematics, which belongs to what
  displays it, or stands below a heading;
- at a numbered line (``3.``, ``Step 3:``);
- at each line, in a text without blank lines (traces that write a step per line);
- at a line or a sentence that opens with a mark of a kind in ``marks.shifts``: "Wait, ...", "Let me check:
  ...". With split="shift" only the last counts, as in arXiv 2502.07374, whose steps end where the text
  "backtracks, checks itself, reflects or otherwise leaves the straight line". Nothing begins inside displayed
  mathematics, formulas and code; three dots end no sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from nemo_cot.traces.marks import NUMBERED, Marks, plain

SPLITS = ("paragraph", "shift")

# Each begins with the letters that a match may begin with: so one that is none costs a look and not all alternatives.
_BREAK = re.compile(
    r"(?=[\r\n.!?\\。！？])(?:(?P<paragraph>\r?\n(?:[ \t]*\r?\n)+[ \t]*)|(?P<line>\r?\n[ \t]*)|[。！？](?!\r?\n)"  # noqa: RUF001
    r"|(?:(?:(?<!\.)\.|[!?])|[.!?](?:[\"'”’)\]*$]|\*\*)|\\[)\]])(?P<gap>[ \t]+))"  # noqa: RUF001
)
_HEADING = re.compile(r"[ \t]*(?:#{1,6}[ \t][^\n]*|(?P<mark>\*\*|__)[^*_\n]{1,100}(?P=mark):?)\s*")
_ONLY_NUMBER = re.compile(r"[>#*_\s]*\(?\d{1,3}[.)]")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|resp|eq|fig|no|dr|mr|ms|st)|\bz\.b|\bd\.h)\.$", re.I)
_DISPLAY = re.compile(r"\\\[|\$\$|\\begin\{")
_OPENERS = re.compile(
    r"(?=[`$\\])(?:```|\$\$|\\\[|\\\(|\\begin\{(\w{1,20}\*?)\}|(?<![\\$])\$(?!\$))"
)
_CLOSERS = {"```": "```", "$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$"}
_LONGEST_FORMULA = 4000
"""Characters; one that is longer was not closed."""


@dataclass(frozen=True)
class Step:
    """``text``, with the white space behind it, and its ``kind``: one of marks.words, or straight."""

    text: str
    kind: str

    @property
    def body(self) -> str:
        """The text without the white space behind it."""
        return self.text.rstrip()

    @property
    def gap(self) -> str:
        """The white space behind it."""
        return self.text[len(self.body) :]


def segment(text: str, marks: Marks, *, split: str = "paragraph") -> list[Step]:
    """The steps of ``text``, in order; none of an empty text. Linear in its length. Raises ValueError for
    other splits.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}")
    places, lower = list(_places(text)), plain(text)
    by_line = split == "paragraph" and all(kind != "paragraph" for _, kind in places)

    def begins(at: int, kind: str) -> bool:
        """Whether a step begins at ``at``, behind a break of that ``kind``."""
        if split == "paragraph" and kind != "sentence":
            if (kind == "paragraph" or by_line) and not _DISPLAY.match(text, at):
                return True
            if NUMBERED.match(text, at):
                return True
        return marks.opening_at(lower, at, len(text)) in marks.shifts

    before = [0, *(at for at, _ in places)]
    starts = [
        at for last, (at, kind) in zip(before, places)
        if begins(at, kind) and not _HEADING.fullmatch(text, last, at)
    ]  # fmt: skip
    bounds = [0, *starts, len(text)] if text else []
    return [Step(text[begin:end], marks.opening_at(lower, begin, end)) for begin, end in pairwise(bounds)]


def sentences(text: str) -> list[str]:
    """The sentences of ``text`` with the white space behind them; lines end a sentence. None of an empty
    text.
    """
    bounds = [0, *(at for at, _ in _places(text)), len(text)] if text else []
    return [text[begin:end] for begin, end in pairwise(bounds)]


def _places(text: str) -> Iterator[tuple[int, str]]:
    """Where a paragraph, a line or a sentence begins behind the first, outside of formulas and code."""
    protected = _formulas(text)
    begin, end = next(protected, (len(text), len(text)))
    last = 0
    for match in _BREAK.finditer(text):
        kind, at = match.lastgroup, match.end()
        sentence_end = match.start("gap") if kind == "gap" else at if kind is None else match.start()
        while end <= sentence_end:
            begin, end = next(protected, (len(text) + 1, len(text) + 1))
        if (begin < at and sentence_end < end) or at == len(text):
            continue
        if kind in ("gap", None) and (
            _ONLY_NUMBER.fullmatch(text, last, sentence_end)
            or _ABBREVIATION.search(text, max(last, sentence_end - 8), sentence_end)
        ):
            continue
        last = at
        yield at, "sentence" if kind in ("gap", None) else kind


def _formulas(text: str) -> Iterator[tuple[int, int]]:
    """Begin and end of each formula and block of code that is closed; each is searched for once."""
    at, missing = 0, set()
    while opened := _OPENERS.search(text, at):
        at = opened.end()
        closer = f"\\end{{{opened[1]}}}" if opened[1] else _CLOSERS[opened[0]]
        if closer in missing:
            continue
        limit = at + _LONGEST_FORMULA
        if closer == "$":  # within its line
            line = text.find("\n", at, limit)
            limit = line if line >= 0 else limit
        found = text.find(closer, at, limit)
        if found >= 0:
            yield opened.start(), found + len(closer)
            at = found + len(closer)
        elif text.find(closer, at) < 0:
            missing.add(closer)

