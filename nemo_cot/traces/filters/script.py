"""script: drop traces in which too many letters are of other scripts, as where a model turns to another
language.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from nemo_cot.records import Trace


@dataclass(frozen=True)
class Filter:
    """``allow``: scripts as Unicode names them (latin, greek, cyrillic, cjk, hiragana, arabic, ...); letters of
    mathematical alphabets count as none. ``most``: the share of all letters that may be of others.
    """

    most: float = 0.0
    allow: list[str] = field(default_factory=lambda: ["latin", "greek"])

    def __post_init__(self) -> None:
        if not 0 <= self.most < 1:
            raise ValueError(f"most is {self.most}; it must lie between 0 and 1")
        if unknown := [name for name in self.allow if not name.isalpha() or name != name.lower()]:
            raise ValueError(f"{unknown[0]!r} is not a script's name in lower case, such as latin")

    def drops(self, trace: Trace, length: int) -> bool:
        """Whether the share of foreign letters is above ``most``."""
        foreign, letters = 0, 0
        for letter, count in Counter(trace.generation).items():
            script = script_of(letter)
            letters += count * (script != "")
            foreign += count * (script not in ("", *self.allow))
        return foreign > self.most * letters


@functools.lru_cache(maxsize=4096)
def script_of(letter: str) -> str:
    """The script that Unicode's name of the letter begins with, in lower case; empty for what is no letter of
    one: mathematical alphabets, letterlike symbols such as \u2135 and \u210f, and modifiers. Raised and lowered letters
    and other forms are of the script of the plain one.
    """
    letterlike = "\u2100" <= letter <= "\u214f" or unicodedata.decomposition(letter).startswith("<font>")
    if not letter.isalpha() or letterlike:
        return ""
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "unknown")
    return "" if name.startswith("MODIFIER") else name.split()[0].split("-")[0].lower()
