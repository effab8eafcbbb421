"""Units behind a number: which words are units, what they measure, and how they convert.

A word that stands in none of these tables is not known: it may scale the number, bound it, or take
it back, so that an answer with it stays undecided.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from nemo_cot.grading.answers.tables import table, table_text, word_set

Dimension = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Unit:
    """``names`` as written. ``dimension``: powers of base units, of "#noun" for things that are counted,
    of "unit" for units that are not named; None if a word is not known.

    One is ``factor`` base units; ``scale`` is what a million or a dozen multiplies the number by. ``mark``
    is "deg" or "pct" for degrees and percent. ``guessed``: it may be a product of variables instead.
    """

    names: tuple[str, ...]
    dimension: Dimension | None
    factor: Fraction = Fraction(1)
    scale: Fraction = Fraction(1)
    mark: str = ""
    guessed: bool = False


_PREFIXES = {name: int(power) for name, power in table("prefixes").items()}
_PREFIXED = word_set(
    "m g s L l N J W V A K Pa Hz C F T B eV cal mol meter metre gram gramme second liter litre newton joule watt "
    "volt amp ampere pascal hertz byte bit calorie mole ohm"
)
SCALES = {name: Fraction(scale) for name, scale in table("scales").items()}
_MARKS = {"percent": "pct", "pct": "pct", "percentage": "pct", "degree": "deg", "deg": "deg", "度": "deg"}
_NOUNS = word_set(table_text("counted_things"))
_FILLERS = word_set("""
a an the of in all total altogether together different distinct possible ordered unordered real complex positive
negative nonnegative natural prime whole even odd small large long short tall wide high deep old away apart each left
remaining new red blue green white black yellow such valid unique exactly lattice
""") - {"prime", "even", "odd", "in"}  # fmt: skip
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_IRREGULAR = {"children": "child", "men": "man", "women": "woman", "mice": "mouse", "geese": "goose", "loaves": "loaf",
              "leaves": "leaf", "vertices": "vertex", "centuries": "century", "halves": "half", "calves": "calf",
              "dice": "die", "shelves": "shelf", "lbs": "lb"}  # fmt: skip


def _base(said: str) -> tuple[dict[str, int], Fraction]:
    """Dimension and factor of a line of the table: 0.001 length3."""
    factor, *powers = said.split()
    pairs = (re.fullmatch(r"([a-zA-Z]+)(-?\d+)?", p).groups() for p in powers)
    return {name: int(power or 1) for name, power in pairs}, Fraction(factor)


_BASE = {name: _base(said) for name, said in table("measures").items()}


def singular(word: str) -> list[str]:
    """What ``word`` may be the plural of, itself first."""
    forms = [word, _IRREGULAR.get(word, word)]
    for ending, new in (("ies", "y"), ("es", ""), ("s", "")):
        if len(word) > len(ending) + 1 and word.endswith(ending):
            forms.append(word.removesuffix(ending) + new)
    return forms


@lru_cache(maxsize=1024)
def measure(word: str) -> tuple[dict[str, int], Fraction] | None:
    """Dimension and factor of one unit: km, Inches, kilograms, mW; None for other words."""
    for written in dict.fromkeys((word, word.lower()) if len(word) > 1 else (word,)):
        for name in singular(written):
            if name in _BASE:
                return _BASE[name]
            for prefix, exponent in _PREFIXES.items():
                stem = name.removeprefix(prefix)
                if (
                    stem != name
                    and stem in _PREFIXED
                    and (len(prefix) > 1) == (len(stem) > 3 or stem in ("amp", "ohm", "bit"))
                ):
                    dimension, factor = _BASE[stem]
                    return dimension, factor * Fraction(10) ** exponent
    return None


@lru_cache(maxsize=4096)
def read_unit(words: tuple[str, ...], *, guessed: bool = False) -> Unit:
    """The unit that ``words`` say: ("square", "cm"), ("m", "/", "s", "^", "2"), ("million", "dollars").

    With ``guessed`` only measures count: what is read may be meant as variables.
    """
    unknown = Unit(tuple(w.lower() for w in words), None, guessed=guessed)
    powers: dict[str, int] = {}
    factor, scale, mark, sign, power, rest = Fraction(1), Fraction(1), "", 1, 1, list(words)
    while rest:
        word = rest.pop(0)
        if word in ("/", "per") or (word in ("a", "an") and powers):
            sign = -1
            continue
        if word == "*":
            continue
        if word.lower() in _POWERS and rest:
            power = _POWERS[word.lower()]
            continue
        if mark == "deg" and word in ("C", "F"):
            word = f"deg{word}"
        found, noun = measure(word), next((n for n in singular(word.lower()) if n in _NOUNS), None)
        scaled = next((SCALES[n] for n in singular(word.lower()) if n in SCALES), None)
        marked = next((_MARKS[n] for n in singular(word.lower()) if n in _MARKS), None)
        if rest[:1] == ["^"] and len(rest) > 1 and re.fullmatch(r"-?\d", rest[1]):
            power, rest = power * int(rest[1]), rest[2:]
        elif rest[:1] in (["squared"], ["cubed"]):
            power, rest = power * (2 if rest.pop(0) == "squared" else 3), rest
        if found:
            for name, exponent in found[0].items():
                powers[name] = powers.get(name, 0) + sign * power * exponent
            factor *= found[1] ** (sign * power)
            mark = "" if {"celsius", "fahrenheit"} & found[0].keys() else mark  # degrees Celsius
        elif guessed or (power != 1 and not noun):
            return unknown
        elif marked:
            mark = marked
        elif scaled and sign == 1 and not powers:
            scale *= scaled
        elif noun:
            powers[f"#{noun}"] = powers.get(f"#{noun}", 0) + sign
        elif word.lower() not in _FILLERS:
            return unknown
        power = 1
    if mark and (scale != 1 or any(not name.startswith("#") for name in powers)):  # degrees per second
        return unknown
    if not powers and not mark and scale == 1 and not set(words) & {"total", "left", "altogether"}:
        return unknown
    return Unit(
        unknown.names, tuple(sorted((n, p) for n, p in powers.items() if p)), factor, scale, mark, guessed
    )
