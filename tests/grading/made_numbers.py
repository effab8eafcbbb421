"""Made pairs of numbers, expressions, units and words behind them."""

from __future__ import annotations

from fractions import Fraction

from tests.grading.made_pairs import maker

# fmt: off  (rows of a table)

UNITS = {  # symbol: its name in words, another unit of the same kind and how many of it one is
    "m": ("meters", "cm", 100), "km": ("kilometers", "m", 1000), "kg": ("kilograms", "g", 1000),
    "s": ("seconds", "ms", 1000), "h": ("hours", "min", 60), "min": ("minutes", "s", 60), "N": ("newtons", "kN", None),
    "J": ("joules", "mJ", 1000), "W": ("watts", "mW", 1000), "V": ("volts", "mV", 1000), "A": ("amperes", "mA", 1000),
    "Pa": ("pascals", None, None), "Hz": ("hertz", None, None), "mol": ("moles", "mmol", 1000), "K": ("kelvins", None, None),
    "L": ("liters", "mL", 1000), "cm^2": ("square centimeters", "mm^2", 100), "m^3": ("cubic meters", "L", 1000),
    "m/s": ("meters per second", None, None), "m/s^2": (None, None, None), "km/h": ("kilometers per hour", None, None),
    "ft": ("feet", "in", 12), "lb": ("pounds", "oz", 16), "cm": ("centimeters", "mm", 10), "kJ": ("kilojoules", "J", 1000),
    "mg": ("milligrams", None, None), "kW": ("kilowatts", "W", 1000), "N\\cdot m": (None, None, None), "C": ("coulombs", None, None),
}  # fmt: skip
NOUNS = ("students", "apples", "ways", "marbles", "people", "solutions", "books", "tickets", "coins", "cards",
         "triangles", "ordered pairs", "girls", "points", "cookies", "integers", "digits", "books", "tables",
         "different ways", "diagonals", "edges", "children", "squares", "cars", "candies", "eggs", "pages")  # fmt: skip
CHANGERS = ("or more", "or 6", "crore", "lakh", "tenths", "hundredths", "thousands", "million", "dozen", "at least",
            "or less", "at most", "modulo 7", "squared", "cubed", "factorial", "halves", "thirds", "hundred", "(or 9)",
            "billion", "is wrong", "less", "more", "score", "or so", "times x", "plus 1", "over 3", "and a half",
            "pairs of 2", "to the power 2", "base 7", "mod 11", "if x>0", "gross", "doubled", "below zero",
            "myriad", "quintillion", "fold", "th root", "ppm", "minus")  # fmt: skip
WORDS = {
    0: "zero", 1: "one", 2: "two", 3: "three", 7: "seven", 11: "eleven", 12: "twelve", 15: "fifteen", 20: "twenty",
    21: "twenty-one", 35: "thirty five", 48: "forty-eight", 90: "ninety", 99: "ninety-nine", 100: "one hundred",
    105: "one hundred and five", 120: "one hundred twenty", 250: "two hundred fifty", 1000: "one thousand",
    2500: "two thousand five hundred", 40000: "forty thousand", 1000000: "one million",
}  # fmt: skip


@maker
def units(draw):
    for unit, (words, other, factor) in UNITS.items():
        n = draw.randint(2, 60)
        spellings = [
            rf"{n}\,\mathrm{{{unit}}}",
            rf"{n} \text{{ {unit}}}",
            rf"{n}\text{{{unit}}}",
            rf"{n}~\text{{{unit}}}",
            f"{n} {unit}",
        ]
        if "^" in unit:
            base, power = unit.split("^")
            spellings += [rf"{n}\ \text{{{base}}}^{power}", rf"{n}\,\mathrm{{{base}}}^{{{power}}}"]
        if words:
            spellings += [rf"{n}\text{{ {words}}}", f"{n} {words}"]
        for gold in spellings[:2] + spellings[-2:]:
            for answer in spellings:
                yield gold, answer, "right"
            yield gold, str(n), "right"
            yield gold, spellings[0].replace(str(n), str(n + 1), 1), "not"
        yield str(n), spellings[0], "right"
        if other and factor:
            yield spellings[0], rf"{n * factor}\text{{ {other}}}", "right"
            yield spellings[0], rf"{n}\text{{ {other}}}", "not"
            yield spellings[0], str(n * factor), "not"
        wrong = "kg" if unit != "kg" else "s"
        yield spellings[0], rf"{n}\text{{ {wrong}}}", "not"
    for n in (20, 37, 98):
        for gold in (
            rf"{n}^\circ\text{{C}}",
            rf"{n}^{{\circ}}\mathrm{{C}}",
            f"{n}°C",
            rf"{n}\text{{ degrees Celsius}}",
        ):
            for answer in (rf"{n}\,^{{\circ}}\mathrm{{C}}", f"{n}°C", rf"{n}^\circ \text{{C}}", str(n)):
                yield gold, answer, "right"
            yield gold, rf"{n}^\circ\text{{F}}", "not"


@maker
def nouns(draw):
    for noun in NOUNS:
        n = draw.randint(2, 90)
        for answer in (
            rf"{n}\text{{ {noun}}}",
            rf"\text{{{n} {noun}}}",
            f"{n} {noun}",
            rf"{n} \mbox{{ {noun}}}",
        ):
            yield str(n), answer, "right"
            yield rf"{n}\text{{ {noun}}}", answer, "right"
            yield str(n + 1), answer, "not"


@maker
def changing_words(draw):
    for word in CHANGERS:
        n = draw.randint(3, 40)
        for answer in (rf"{n}\text{{ {word}}}", rf"{n} \text{{{word}}}", f"{n} {word}"):
            yield str(n), answer, "not"
    for word, factor in (
        ("thousand", 1000),
        ("million", 10**6),
        ("dozen", 12),
        ("hundred", 100),
        ("crore", 10**7),
    ):
        n = draw.randint(3, 40)
        yield str(n * factor), rf"{n}\text{{ {word}}}", "right"
        yield rf"{n}\text{{ {word}}}", str(n * factor), "right"
        yield str(n * factor + 1), rf"{n}\text{{ {word}}}", "not"


@maker
def symbols_in_text(draw):
    for _ in range(12):
        a, b = draw.randint(1, 9), draw.randint(2, 9)
        for i in (r"\text{i}", r"\mathrm{i}", r"\mathrm i", r"\textit{i}", r"\textrm{i}"):
            yield f"{a}+{b}i", f"{a}+{b}{i}", "right"
            yield f"{a}-{b}i", f"{a}+{b}{i}", "not"
            yield str(a + b), f"{a}+{b}{i}", "not"
            yield rf"\sqrt{{{b}}}", rf"\sqrt{{{b}}}{i}", "not"
        for letter in "xynkabpt":
            yield str(b), rf"{b}\text{{ {letter}}}", "not"
            yield f"{b}{letter}", rf"{b}\text{{{letter}}}", "right"
        yield rf"{b}\pi", rf"{b}\text{{ pi}}", "right"
        yield str(b), rf"{b}\text{{ pi}}", "not"


@maker
def primes(draw):
    for name in ("x", "y", "f(x)", "2x", "u", "g(t)", "y+1"):
        for marks in ("'", "''", r"^{\prime}"):
            letter = next(c for c in name if c.isalpha())
            yield name, name.replace(letter, letter + marks, 1), "not"
            yield name.replace(letter, letter + marks, 1), name, "not"
    yield "f'(x)=2x", "2x", "right"
    yield "f'(x)=2x", "f(x)=2x", "not"


@maker
def marks(draw):
    for value in ("0.25", "1", r"\frac34", "0.5", "0.8", r"\frac{1}{2}", "0.07", "0.125"):
        for sign in (r"\%", "%", r"\text{ percent}", " percent"):
            yield value, value + sign, "not"
            yield value + sign, value, "not"
    for n in (15, 40, 75, 120):
        for sign in (r"\%", "%", r"\text{ percent}", " percent", " pct"):
            yield rf"{n}\%", f"{n}{sign}", "right"
            yield str(Fraction(n, 100)), f"{n}{sign}", "right"
            yield rf"{n}\%", f"{n + 1}{sign}", "not"
        for sign in (r"^\circ", "°", " degrees", r"\text{ degrees}", " deg", r"^{\circ}"):
            yield rf"{n}^\circ", f"{n}{sign}", "right"
            yield rf"{n}^\circ", f"{n + 1}{sign}", "not"
        for rad in (r"\text{ rad}", r"\text{ radians}", " rad", " radians"):
            yield rf"{n}^\circ", f"{n}{rad}", "not"
            yield rf"\frac{{{n}\pi}}{{180}}", rf"\frac{{{n}\pi}}{{180}}{rad}", "right"
            yield rf"{n}^\circ", rf"\frac{{{n}\pi}}{{180}}{rad}", "right"
    for value in (r"\pi", r"\frac{\pi}{3}", r"2\pi", r"\frac{\pi}{2}"):
        yield value, value + r"^\circ", "not"
        yield value + r"^\circ", value, "not"


@maker
def functions(draw):
    for f in ("sin", "cos", "tan", "ln", "arctan"):
        for x in "xt":
            yield rf"\{f} {x}\, e^{x}", rf"\{f}({x}e^{x})", "not"
            yield rf"e^{x}\{f} {x}", rf"\{f} {x}\, e^{{{x}}}", "right"
            yield rf"\{f} {x} (1+{x}^2)", rf"(1+{x}^2)\{f} {x}", "right"
            yield rf"\{f} {x} (1+{x}^2)", rf"\{f}({x}(1+{x}^2))", "not"
            yield rf"{x}\{f} {x}", rf"\{f}({x})\, {x}", "right"
            yield rf"{x}\{f} {x}", rf"\{f}({x}^2)", "not"
            yield rf"\{f} 2{x}", rf"\{f}(2{x})", "right"
            yield rf"\{f} 2{x}", rf"2\{f} {x}", "not"
            yield rf"\{f} n{x}", rf"\{f}(n{x})", "right"
            yield rf"\{f}\frac{{{x}}}{{2}}", rf"\{f}({x}/2)", "right"
            yield rf"\{f} {x}^2", rf"\{f}({x}^2)", "right"
            yield rf"\{f} {x}^2", rf"(\{f} {x})^2", "not"
            yield rf"\{f}^2 {x}", rf"(\{f} {x})^2", "right"
            yield rf"\frac{{\{f} {x}}}{{{x}}}", rf"\{f}({x})/{x}", "right"
            yield rf"\frac{{\{f} {x}}}{{{x}}}", rf"\{f} 1", "not"
    for g, a in (
        ("f(x+1)", "f(x)+1"),
        ("f(2x)", "2f(x)"),
        ("f(x)", "f(y)"),
        ("f(x)g(x)", "f(g(x))"),
        ("f(f(x))", "f(x)^2"),
    ):
        yield g, a, "not"


@maker
def close_numbers(draw):
    for n in (20, 25, 30):
        yield f"{n}!", rf"\sqrt{{({n}!)^2+1}}", "not"
        yield f"{n}!", rf"\sqrt{{({n}!)^2}}", "right"
    for n in (15, 21, 40, 80):
        yield "1" + "0" * n, rf"\sqrt{{(10^{{{n}}})^2+1}}", "not"
        yield f"10^{{{n}}}", rf"\sqrt[3]{{(10^{{{n}}})^3+1}}", "not"
        yield f"10^{{{n}}}", rf"\sqrt[3]{{10^{{{3 * n}}}}}", "right"
    for n in (300, 900, 2024):
        for g, a in ((f"1-e^{{-{n}}}", "1"), (f"e^{{-{n}}}", f"e^{{-{n + 1}}}"), (f"e^{{-{n}}}", "0"), (f"x+e^{{-{n}}}", "x"),
                     (rf"\tanh {n}", "1"), ("[0,1]", f"[e^{{-{n}}},1]"), (rf"\pi+10^{{-{n}}}", r"\pi"), (rf"\ln(1+e^{{-{n}}})", "0"),
                     (rf"\sqrt{{1+e^{{-{n}}}}}", "1"), (rf"\cos(10^{{-{n}}})", "1"), (f"\\{{e^{{-{n}}},1\\}}", r"\{0,1\}")):  # fmt: skip
            yield g, a, "not"
            yield a, g, "not"
        yield f"e^{{-{n}}}", rf"\frac{{1}}{{e^{{{n}}}}}", "right"
    for n in (100, 480, 700):
        yield rf"\pi^{{{n}}}", rf"\pi^{{{n}}}+1", "not"
        yield rf"\pi^{{{n}}}", rf"(\pi^{{{n // 2}}})^2", "right"
    for n in (30, 80, 150):
        yield rf"\frac{{\pi}}{{{n}!}}", "0", "not"
        yield rf"\frac{{\pi}}{{{n}!}}", rf"\frac{{2\pi}}{{2\cdot {n}!}}", "right"


@maker
def decimals(draw):
    import mpmath

    for latex, value in ((r"\sqrt2", mpmath.sqrt(2)), (r"\pi", mpmath.pi), (r"\frac13", mpmath.mpf(1) / 3), ("e", mpmath.e),
                         (r"\ln 2", mpmath.log(2)), (r"\frac{22}{7}", mpmath.mpf(22) / 7), (r"\sqrt{10}", mpmath.sqrt(10)),
                         (r"\frac{\sqrt3}{2}", mpmath.sqrt(3) / 2), (r"100\pi", 100 * mpmath.pi), (r"\sin 1", mpmath.sin(1))):  # fmt: skip
        yield latex, repr(float(value)), "right"
        for digits in (7, 9, 12):
            text = mpmath.nstr(value, digits, strip_zeros=False)
            yield latex, text, "right"
            yield latex, text[:-1] + str((int(text[-1]) + 4) % 10), "not"
        yield latex, mpmath.nstr(value, 4), "not"


@maker
def bases(draw):
    for base, word in ((2, "two"), (3, "three"), (5, "five"), (8, "eight"), (16, "sixteen"), (7, "seven")):
        digits = "1" + "".join(draw.choice("0123456789"[: min(base, 10)]) for _ in range(3))
        gold = f"{digits}_{{{base}}}"
        for answer in (
            f"({digits})_{{{base}}}",
            rf"{digits}_{{\text{{{word}}}}}",
            rf"{digits}_\text{{{word}}}",
            f"{digits}_{base}" if base < 10 else gold,
        ):
            yield gold, answer, "right"
            yield answer, gold, "right"
        yield gold, f"{digits}_{{{base + 1}}}", "not"
        yield gold, digits, "not"
        yield gold, f"({digits[:-1]}2)_{{{base}}}" if digits[-1] != "2" else "7_9", "not"
    yield "1A_{16}", r"(1A)_{16}", "right"


@maker
def thousands(draw):
    for _ in range(12):
        a, b, c = draw.randint(1, 99), draw.randint(100, 999), draw.randint(10, 99)
        n = a * 1000 + b
        for answer in (f"{a},{b}.{c}", f"{a}{b}.{c}", rf"{a}\,{b}.{c}", f"{a}{{,}}{b}.{c}"):
            yield f"{n}.{c}", answer, "right"
        yield f"{a},{b}.{c}", f"{n}.{c}", "right"
        yield f"-{n}", f"-{a},{b}", "right"
        yield f"-{a},{b}", f"-{n}", "right"
        yield rf"{n}\pi", rf"{a},{b}\pi", "right"
        yield rf"{a},{b}\pi", rf"{n}\pi", "right"
        yield rf"{n}\sqrt2", rf"{a},{b}\sqrt{{2}}", "right"
        yield f"x={n}", f"x={a},{b}", "right"
        yield rf"\${a},{b}.{c}", f"{n}.{c}", "right"
        yield f"-{n}", f"-{a},{b + 1}", "not"
        yield f"{n}.{c}", f"{a},{b}.{c + 1}", "not"
        yield rf"{n}\pi", rf"{a},{b + 1}\pi", "not"
        yield f"{a},{c}", f"{a}.{c}", "not"
        yield f"{a}.{c}", f"{a},{c}", "not"
        yield str(a), f",{a}", "not"
        yield f"({a},{b})", str(n), "not"


@maker
def number_words(draw):
    for n, words in WORDS.items():
        for answer in (words, rf"\text{{{words}}}", words.capitalize()):
            yield str(n), answer, "right"
            yield str(n + 1), answer, "not"
        if n:
            yield str(-n), f"negative {words}", "right"
            yield str(-n), f"minus {words}", "right"
            yield str(n), f"negative {words}", "not"
    for value, words in ((r"\frac12", "one half"), (r"\frac12", "a half"), (r"\frac23", "two thirds"), (r"\frac34", "three quarters"),
                         (r"\frac34", "three-fourths"), (r"\frac52", "two and a half"), (r"\frac15", "one fifth"), (r"\frac14", "one quarter")):  # fmt: skip
        yield value, words, "right"
        yield value, rf"\text{{{words}}}", "right"
        yield value + "+1", words, "not"
    for words in (
        "infinitely many",
        "countless",
        "a lot",
        "none",
        "half of them",
        "five or six",
        "more than three",
        "a dozen or so",
    ):
        yield "5", words, "not"
        yield r"\infty", words, "not"


@maker
def logarithms(draw):
    for n in (2, 3, 5, 7, 10):
        yield rf"\ln {n}", rf"\log {n}", "right"
        yield rf"\ln {n}", rf"\log_e {n}", "right"
        yield rf"\ln {n}", rf"\log_{{10}} {n}", "not"
        yield rf"\log {n}", rf"\ln {n}", "not"
        yield rf"\frac{{\ln {n}}}{{2}}", rf"\frac12\log {n}", "right"
        yield rf"\log_{n} {n**3}", "3", "right"
