"""finish: drop traces that did not end by themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nemo_cot.records import Trace


@dataclass(frozen=True)
class Filter:
    """``reasons``: the finish reasons that pass. Curation itself keeps only "stop" (curate.finish_reasons)."""

    reasons: list[Literal["stop", "length"]] = field(default_factory=lambda: ["stop"])

    def drops(self, trace: Trace, length: int) -> bool | str:
        """Whether the trace ended otherwise; counted as unfinished."""
        return "unfinished" if trace.finish_reason not in self.reasons else False
