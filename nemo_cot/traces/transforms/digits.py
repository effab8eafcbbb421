"""digits: digits of the thought become random ones."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nemo_cot.records import Trace
from nemo_cot.traces.edits import drawn
from nemo_cot.traces.thought import Parts
from nemo_cot.traces.transforms import Edit, Site


@dataclass(frozen=True)
class Transform:
    """``dose``: the share of the digits 0 to 9 that are replaced, each by one of the ten, which may be the
    same.
    """

    dose: float

    def edit(self, trace: Trace, parts: Parts, site: Site) -> Edit:
        """The number of digits stays."""
        places = [match.start() for match in re.finditer("[0-9]", parts.thought)]
        letters = list(parts.thought)
        chosen = drawn(len(places), self.dose, site.draw)
        for place in chosen:
            letters[places[place]] = site.draw.choice("0123456789")
        return Edit(parts.with_thought("".join(letters)), {"digits": len(places), "replaced": len(chosen)})
