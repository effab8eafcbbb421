"""regex: leave out traces in which a pattern occurs, or those in which it does not."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nemo_cot.records import Trace


@dataclass(frozen=True)
class Filter:
    """``pattern``: a regular expression of Python, searched for in the generation. ``keep``: leave out the
    traces without it, in place of those with it. Raises ValueError for what is no regular expression.
    """

    pattern: str
    keep: bool = False

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"{self.pattern!r} is no regular expression: {error}") from None

    def drops(self, trace: Trace, length: int) -> bool:
        """Whether the pattern is found, or not found with ``keep``."""
        return (re.search(self.pattern, trace.generation) is not None) is not self.keep
