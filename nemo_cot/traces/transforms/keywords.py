"""keywords: sentences of the thought that hold a mark are removed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nemo_cot.records import Trace
from nemo_cot.traces.edits import drawn, without
from nemo_cot.traces.steps import sentences
from nemo_cot.traces.thought import Parts
from nemo_cot.traces.transforms import Edit, Site

_CODE = re.compile(r"```.*?```", re.S)


@dataclass(frozen=True)
class Transform:
    """``dose``: the share of those sentences that are removed. ``kinds``: of marks.words; none:
    marks.shifts. A block of code is no sentence, whatever its comments hold.
    """

    dose: float
    kinds: tuple[str, ...] = ()

    def edit(self, trace: Trace, parts: Parts, site: Site) -> Edit:
        """The other sentences stay, in their order."""
        pieces, kinds = sentences(parts.thought), self.kinds or site.marks.shifts
        marked = [
            n for n, piece in enumerate(pieces)
            if any(mark.kind in kinds for mark in site.marks.find(_CODE.sub("", piece)))
        ]  # fmt: skip
        removed = {marked[place] for place in drawn(len(marked), self.dose, site.draw)}
        return Edit(
            parts.with_thought(without(pieces, removed)), {"sentences": len(marked), "removed": len(removed)}
        )
