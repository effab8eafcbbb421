r"""What of a trace is its thought, and what its final solution.

With markers (marks.thoughts: <think> and its kin) the thought stands between the first opening one and the last closing
one; an opening one may be missing, as where the prompt ends with it. Without a
closing marker: the step that holds the last ``\boxed`` (without any: the last step), and what follows it, is
the final solution; where that is the whole text, its sentence is. What stands before an opening marker that
is not closed is kept, too.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from nemo_cot.traces.marks import Marks
from nemo_cot.traces.steps import segment, sentences

_BOX = re.compile(r"\\f?box(?:ed)?(?![a-zA-Z])")


class Parts(NamedTuple):
    """``before + thought + solution`` is the text. ``before`` ends with the opening marker, ``solution``
    begins with the closing one; the white space around the thought is theirs, so that the thought can be
    exchanged alone.
    """

    before: str
    thought: str
    solution: str

    def with_thought(self, thought: str) -> str:
        """The text with another thought; without any it begins with the solution's first letter."""
        return self.before + thought + (self.solution if self.before or thought else self.solution.lstrip())


def marked_thought(text: str, marks: Marks) -> tuple[int, int] | None:
    """Begin and end of what stands between markers; None without a closing one."""
    for opening, closing in marks.config.thoughts:
        if (end := text.rfind(closing)) >= 0:
            opened = text.find(opening, 0, end)
            return (opened + len(opening) if opened >= 0 else 0), end
    return None


def split_thought(text: str, marks: Marks) -> Parts:
    """The parts of ``text``. Linear in its length."""
    if (marked := marked_thought(text, marks)) is not None:
        begin, end = marked
    else:
        opened = [(text.find(opening), len(opening)) for opening, _ in marks.config.thoughts]
        begin = max((at + length for at, length in opened if at >= 0), default=0)
        end = begin + _solution_start(text[begin:], marks)
    thought = text[begin:end]
    body = thought.strip()
    begin += len(thought) - len(thought.lstrip()) if body else 0
    return Parts(text[:begin], body, text[begin + len(body) :])


def _solution_start(text: str, marks: Marks) -> int:
    """Where the final solution of a text without markers begins."""
    box = max((match.start() for match in _BOX.finditer(text)), default=None)
    start = _start_of_piece([step.text for step in segment(text, marks)], box)
    return start or _start_of_piece(sentences(text), box)


def _start_of_piece(pieces: list[str], at: int | None) -> int:
    """Where the piece that holds the position ``at`` begins; the last piece, for None."""
    start = 0
    for piece in pieces[:-1]:
        if at is not None and at < start + len(piece):
            return start
        start += len(piece)
    return start
