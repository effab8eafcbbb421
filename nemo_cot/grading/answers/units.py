"""Units behind a number: which words are units, what they measure, and how they convert.

A word that stands in none of these tables is not known: it may scale the number, bound it, or take
it back, so that an answer with it stays undecided.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

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


_MEASURES = """
m meter metre 米 = 1 length | in inch inches = 0.0254 length | ft foot feet = 0.3048 length | yd yard = 0.9144 length
mi mile = 1609.344 length | 厘米 = 0.01 length | 毫米 = 0.001 length | 千米 公里 = 1000 length | ly = 1 ly
s sec second 秒 = 1 time | min minute 分钟 = 60 time | h hr hour 小时 = 3600 time | day 天 = 86400 time
wk week = 604800 time | fortnight = 1209600 time | month = 1 month | yr year 年 = 12 month | decade = 120 month
century = 1200 month | g gm gram gramme 克 = 0.001 mass | 千克 公斤 = 1 mass | tonne 吨 = 1000 mass | ton = 1 ton
lb lbs pound = 0.45359237 mass | oz ounce = 0.028349523125 mass | L l liter litre 升 = 0.001 length3
毫升 = 0.000001 length3 | gal gallon = 0.003785411784 length3 | qt quart = 0.000946352946 length3
pt pint = 0.000473176473 length3 | cup = 1 cup | tablespoon tbsp = 3 tsp | teaspoon tsp = 1 tsp | cc = 0.000001 length3
acre = 4046.8564224 length2 | ha hectare = 10000 length2 | 平方厘米 = 0.0001 length2 | 平方米 = 1 length2
立方厘米 = 0.000001 length3 | 立方米 = 1 length3 | mph = 0.44704 length time-1 | kph kmh kmph = 5/18 length time-1
knot = 1852/3600 length time-1 | N newton = 1 mass length time-2 | J joule = 1 mass length2 time-2
W watt = 1 mass length2 time-3 | Pa pascal = 1 mass length-1 time-2 | bar = 100000 mass length-1 time-2
atm atmosphere = 101325 mass length-1 time-2 | cal calorie = 4.184 mass length2 time-2 | eV = 1 eV
Hz hertz = 1 time-1 | rpm = 1/60 time-1 | A amp ampere = 1 current | C coulomb = 1 current time
V volt = 1 mass length2 time-3 current-1 | ohm = 1 mass length2 time-3 current-2 | T tesla = 1 mass time-2 current-1
F farad = 1 mass-1 length-2 time4 current2 | mol mole = 1 mol | K kelvin = 1 temperature
degC celsius centigrade 摄氏度 = 1 celsius | degF fahrenheit = 1 fahrenheit | rad radian 弧度 = 1 angle
dollar usd buck = 1 dollar | cent ¢ = 0.01 dollar | euro eur = 1 euro | rupee rs inr = 1 rupee | yen jpy = 1 yen
元 yuan = 1 yuan | byte B = 8 bit | bit = 1 bit | unit = 1 unit | 单位 = 1 unit
"""
_PREFIXES = {"k": 3, "M": 6, "G": 9, "T": 12, "d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12,
             "kilo": 3, "mega": 6, "giga": 9, "tera": 12, "deci": -1, "centi": -2, "milli": -3, "micro": -6,
             "nano": -9, "pico": -12}  # fmt: skip
_PREFIXED = frozenset(
    "m g s L l N J W V A K Pa Hz C F T B eV cal mol meter metre gram gramme second liter litre newton joule watt "
    "volt amp ampere pascal hertz byte bit calorie mole ohm".split()
)
SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "lakh": 10**5,
    "lac": 10**5, "crore": 10**7, "dozen": 12, "score": 20, "gross": 144, "万": 10**4, "亿": 10**8,
    **{f"{name}th": Fraction(1, value) for name, value in (
        ("four", 4), ("six", 6), ("seven", 7), ("ten", 10), ("hundred", 100), ("thousand", 1000), ("million", 10**6))},
    "half": Fraction(1, 2), "third": Fraction(1, 3), "quarter": Fraction(1, 4), "fifth": Fraction(1, 5),
    "eighth": Fraction(1, 8), "ninth": Fraction(1, 9),
}  # fmt: skip
_MARKS = {"percent": "pct", "pct": "pct", "percentage": "pct", "degree": "deg", "deg": "deg", "度": "deg"}
_NOUNS = frozenset("""
adult airplane album animal answer ant apple apricot arrangement arrow assignment atom bag ball balloon banana
basket bead bean bear bee bird block board boat book bottle box boy bracelet branch brick brother bucket bus
cake calculator camel can candle candy car card carrot case cat cell chair chapter child chip choice chocolate
circle city class click clown code coin color colour column combination committee computer congruence container
cookie cow crate crayon crossing cube customer cycle desk diagonal dice die digit dime disk divisor dog doll
donut door dot doughnut dress drop duck edge egg element elephant employee entry envelope equation error
event face factor family fan farmer female finger fish flag flavor flight flip floor flower fly folder fork
fraction frame friend frog fruit function game gift girl glass goal goat grade grape graph group guest hamster hand hat
head hen hexagon hit hole horse house ice inning integer intersection item jar jelly job key kid king kitten
ladder lamp lap layer leaf leg lemon letter lettuce level light line lion list log machine magazine male man
map marble match meal member mouse move movie mug muffin multiple nail nickel night
number nut octagon opening option orange order outcome outfit owl packet packet page paint paintbrush pair
pancake panel paper park part partition passenger path peach peanut pear pearl pebble pen pencil penny
pentagon people permutation person petal phone photo picture pie piece pig pillow pizza place plane plant
plate player plum point pole polygon polynomial position post pot potato prime prize problem program prism
puppy puzzle quadrilateral question rabbit race ray rectangle ribbon ring road rock roll room root rope rose
round route row rug run sail salesman sandwich school seat seed segment selection sequence set shade shape
sheep sheet shelf shirt shoe shot side sign sister site slice snack sock song soldier solution spider
spoon square stair stamp star state station step stick sticker stone stop store story strawberry street string
student subset suit sum swap sweet symmetry table tank task teacher team term test text thing ticket tile time toss
tourist towel tower toy train tree trial triangle trip truck tulip tuple turn tv value vase vehicle vertex vote
voter vowel walk wall watermelon way wheel win window winner woman word worker zebra zero
人 个 种 只 本 支 次 岁 块 名 张 条 件 辆 颗 棵 头 朵 双 组 份 位
""".split())
_FILLERS = frozenset("""
a an the of in all total altogether together different distinct possible ordered unordered real complex positive
negative nonnegative natural prime whole even odd small large long short tall wide high deep old away apart each left
remaining new red blue green white black yellow such valid unique exactly lattice
""".split()) - {"prime", "even", "odd", "in"}  # fmt: skip
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_IRREGULAR = {"children": "child", "men": "man", "women": "woman", "mice": "mouse", "geese": "goose", "loaves": "loaf",
              "leaves": "leaf", "vertices": "vertex", "centuries": "century", "halves": "half", "calves": "calf",
              "dice": "die", "shelves": "shelf", "lbs": "lb"}  # fmt: skip


def _bases() -> dict[str, tuple[dict[str, int], Fraction]]:
    found = {}
    for entry in _MEASURES.replace("\n", "|").split("|"):
        if entry.strip():
            names, (factor, *powers) = entry.split("=")[0].split(), entry.split("=")[1].split()
            pairs = (re.fullmatch(r"([a-zA-Z]+)(-?\d+)?", p).groups() for p in powers)
            dimension = {name: int(power or 1) for name, power in pairs}
            found.update(dict.fromkeys(names, (dimension, Fraction(factor))))
    return found


_BASE = _bases()


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
                if stem != name and stem in _PREFIXED and (len(prefix) > 1) == (len(stem) > 3 or stem in ("amp", "ohm", "bit")):
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
    if not powers and not mark and scale == 1 and not set(words) & {"total", "all", "left", "altogether", "each"}:
        return unknown
    return Unit(unknown.names, tuple(sorted((n, p) for n, p in powers.items() if p)), factor, scale, mark, guessed)
