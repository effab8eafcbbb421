"""The schema of conf/marks: how a set of traces marks its thoughts and its turns. Values: conf/marks."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_cot.config.checks import one_of
from nemo_cot.errors import UserError

LEAD = "lead"
STRAIGHT = "straight"
"""Words that may stand before a mark and are none; the kind of a step that opens with no mark."""


@dataclass
class MarksConfig:
    """``words``: language -> kind of step -> words and phrases that open such a step; of several in one
    opening, the kind that is listed first counts. ``lead`` holds words that may stand before them.
    ``shifts``: the kinds that leave the straight line. ``thoughts``: pairs of opening and closing markers
    around a thought, as sets write them.
    """

    words: dict[str, dict[str, list[str]]]
    shifts: list[str]
    thoughts: list[list[str]]

    def __post_init__(self) -> None:
        for language, kinds in self.words.items():
            for kind, phrases in kinds.items():
                _phrases(f"marks.words.{language}.{kind}", phrases)
                if kind == STRAIGHT:
                    raise UserError(
                        "is the kind without a mark",
                        where=f"marks.words.{language}.{kind}",
                        fix="choose another name",
                    )
        for kind in self.shifts:
            one_of("marks.shifts", kind, [kind for kind in self.kinds if kind != LEAD])
        for pair in self.thoughts:
            if len(pair) != 2 or not all(marker.strip() for marker in pair):
                raise UserError(
                    f"{pair} is no pair of markers",
                    where="marks.thoughts",
                    fix="for example [<think>, </think>]",
                )

    @property
    def kinds(self) -> list[str]:
        """All kinds, ``lead`` among them, in the order of the languages' lists."""
        return list(dict.fromkeys(kind for kinds in self.words.values() for kind in kinds))


def _phrases(key: str, phrases: list[str]) -> None:
    """Raise UserError unless all are text with a letter in them."""
    for phrase in phrases:
        if not any(letter.isalpha() for letter in phrase):
            raise UserError(f"{phrase!r} holds no letter", where=key, fix="give words or phrases")
