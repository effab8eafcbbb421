"""Words that mark turns of a trace (conf/marks), compiled: which stand where in a text, and how a text
opens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from nemo_cot.config.marks import LEAD, STRAIGHT, MarksConfig

_APOSTROPHES = "\u2019\u2018\u02bc"
_DECORATION = r"[\s>#*_~\"'“”‘「『(\[$`\-–—•·.…,;:!?，。；：！？、]*"  # noqa: RUF001 (Chinese marks)
_ITEM = r"(?:step|case|part|schritt|fall)"
NUMBERED = re.compile(
    rf"[>#*_ \t]*(?:(?:{_ITEM}[ \t]{{0,3}})?\(?\d{{1,3}}[.):、](?!\d)|{_ITEM}[ \t]\d{{1,3}}\b|第\d{{1,3}}步)",
    re.I,
)
"""How a line begins that is numbered: 3. or (3) or Step 3."""
_HEAD = re.compile(rf"(?:\s*{NUMBERED.pattern})?{_DECORATION}", re.I)
_BETWEEN = re.compile(r"(?:[ \t*_~\"'“”‘\-–—,;:，；：、]|\.{2,}|…)*")  # noqa: RUF001
"""Between the marks of one opening: no end of a sentence, and no new line."""
_MAX_OPENING = 5
"""Marks and words before them that one opening may hold: "But wait, no, let me check"."""
_LONGEST_OPENING = 200
"""Characters of a text that are looked at for its opening."""


class Mark(NamedTuple):
    """Where a mark stands in a text, and its kind."""

    start: int
    end: int
    kind: str


class Marks:
    """A :class:`MarksConfig`, ready to be searched for. Case and the form of apostrophes do not count."""

    def __init__(self, config: MarksConfig) -> None:
        self.config = config
        self.kinds = [kind for kind in config.kinds if kind != LEAD]
        self.step_kinds = [*self.kinds, STRAIGHT]
        self.shifts = frozenset(config.shifts)
        self._kind_of: dict[str, str] = {}
        for kind in (*self.kinds, LEAD):  # a phrase in two lists is of the first kind
            for kinds in config.words.values():
                for phrase in kinds.get(kind, ()):
                    self._kind_of.setdefault(plain(phrase), kind)

    def opening(self, text: str) -> str:
        """The kind of mark that ``text`` opens with, :data:`STRAIGHT` without one.

        Numbers of list items, markup and words of the kind lead may stand before it; of several marks in a
        row, the kind that is listed first counts.
        """
        return self.opening_at(plain(text), 0, len(text))

    def opening_at(self, lower: str, start: int, end: int) -> str:
        """As :meth:`opening`, of what stands from ``start`` to ``end`` in a text that :func:`plain` made."""
        if self._pattern is None:
            return STRAIGHT
        end = min(end, start + _LONGEST_OPENING)
        found, at = set(), _HEAD.match(lower, start, end).end()  # type: ignore[union-attr] (it matches nothing, too)
        for _ in range(_MAX_OPENING):
            match = self._pattern.match(lower, at, end)
            if not match:
                break
            found.add(self._kind_of[match[0]])
            at = _BETWEEN.match(lower, match.end(), end).end()  # type: ignore[union-attr]
        return next((kind for kind in self.kinds if kind in found), STRAIGHT) if found else STRAIGHT

    def find(self, text: str) -> Iterator[Mark]:
        """All marks in the text, from left to right, of all kinds but lead; the longest at each place."""
        if self._pattern is None:
            return
        for match in self._pattern.finditer(plain(text)):
            kind = self._kind_of[match[0]]
            if kind != LEAD:
                yield Mark(match.start(), match.end(), kind)

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        """All phrases, the longest first where several begin alike; None without any."""
        if not self._kind_of:
            return None
        tree: dict = {}
        for phrase in self._kind_of:
            node = tree
            for letter in phrase:
                node = node.setdefault(letter, {})
            node[""] = {}
        firsts = "".join(re.escape(letter) for letter in sorted(tree))
        return re.compile(rf"(?=[{firsts}])(?:(?<!\w)|(?<=[{CJK}])|(?=[{CJK}]))(?:{_alternatives(tree)})")


CJK = "\u3040-\u30ff\u3400-\u9fff"
"""Scripts that put no space between words, so a mark needs none around it."""


def _alternatives(node: dict, above: str = "") -> str:
    """The phrases below ``node`` as an expression that tries longer ones first; letters behind a phrase end
    it.
    """
    parts = [re.escape(letter) + _alternatives(below, letter) for letter, below in node.items() if letter]
    if "" in node:
        parts.append("" if re.match(f"[{CJK}]", above) else r"(?!\w)")
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


def plain(text: str) -> str:
    """``text`` in lower case with plain apostrophes, of the same length."""
    lower = text.lower()
    if len(lower) != len(text):  # a letter such as İ, whose small form is two
        lower = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    for letter in _APOSTROPHES:
        lower = lower.replace(letter, "'")
    return lower
