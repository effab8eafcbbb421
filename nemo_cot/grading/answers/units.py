"""Units behind a number: which words are units, and how they convert."""

from __future__ import annotations

from fractions import Fraction

_BASE: dict[str, tuple[str, Fraction]] = {}


def _add(kind: str, factor: Fraction | int | str, names: str) -> None:
    for name in names.split():
        _BASE[name] = (kind, Fraction(factor))


_add("length", 1, "m meter metre")
_add("length", "1/1000", "mm millimeter millimetre")
_add("length", "1/100", "cm centimeter centimetre")
_add("length", 1000, "km kilometer kilometre")
_add("length", "0.0254", "in inch")
_add("length", "0.3048", "ft foot feet")
_add("length", "0.9144", "yd yard")
_add("length", "1609.344", "mi mile")
_add("time", 1, "s sec second")
_add("time", 60, "min minute")
_add("time", 3600, "h hr hour")
_add("time", 86400, "day")
_add("time", 604800, "week")
_add("mass", 1, "g gram gm")
_add("mass", 1000, "kg kilogram")
_add("money", 1, "dollar usd buck")
_add("money", "1/100", "cent")
_add("volume", 1, "l liter litre")
_add("volume", "1/1000", "ml milliliter millilitre")
_add("unit", 1, "unit")

_ADJECTIVES = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_PLURALS = {"inches": "inch", "feet": "foot"}


def convert(unit: str) -> tuple[str, Fraction] | None:
    """Kind and factor of ``unit`` ("square cm" gives length^2 and 1/10000), None for other words."""
    words = unit.lower().replace(".", "").split()
    power = 1
    if words and words[0] in _ADJECTIVES:
        power, words = _ADJECTIVES[words[0]], words[1:]
    if len(words) == 2 and words[1].startswith("^") and words[1][1:].isdigit():
        power, words = int(words[1][1:]), words[:1]
    if len(words) != 1 or not 1 <= power <= 9:
        return None
    known = _BASE.get(singular(words[0]))
    return None if known is None else (f"{known[0]}^{power}", known[1] ** power)


def singular(word: str) -> str:
    """The word without the ending of a plural."""
    word = _PLURALS.get(word, word)
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


def same_unit(a: str, b: str) -> bool:
    """Whether two units are the same words, plurals and the word "unit" apart."""
    return _plain(a) == _plain(b)


def _plain(unit: str) -> list[str]:
    return [singular(w) for w in unit.lower().replace(".", "").split() if singular(w) not in ("unit", "of")]
