"""regex: drop traces in which a pattern occurs, or those in which it does not."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nemo_cot.records import Trace


@dataclass(frozen=True)
class Filter:
    """``pattern``: a regular expression of Python, searched for in the generation. ``keep``: drop the
    traces without it instead. Raises ValueError for an invalid regular expression.
    """

    pattern: str
    keep: bool = False

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"{self.pattern!r} is not a regular expression: {error}") from None

    def drops(self, trace: Trace, length: int) -> bool:
        """Whether the pattern is found, or not found with ``keep``."""
        return (re.search(self.pattern, trace.generation) is not None) is not self.keep
