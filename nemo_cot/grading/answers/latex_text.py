# ruff: noqa: RUF001  (the signs of mathematics are meant as they stand)
"""One spelling for the many ways to write the same LaTeX: the text before it is cut into tokens."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from nemo_cot.grading.answers.tables import table

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_UNICODE = {
    sign: f"{latex} " if latex.startswith("\\") else latex for sign, latex in table("symbols").items()
}
_TRANSLATION = str.maketrans(_UNICODE)
_SCRIPTED = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+)|([₀₁₂₃₄₅₆₇₈₉]+)")
_VULGAR = re.compile("[¼-¾⅐-⅞]")

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple((re.compile(pattern), new) for pattern, new in [
    # Thousands marks that cannot be anything else: 10,\!080  12{,}345  12\,345
    (r"(?<=\d)\s*,\s*\\!\s*(?=\d{3}(?!\d))", ""),
    (r"(?<=\d)\s*\{,\}\s*(?=\d{3}(?!\d))", ""),
    (r"(?<=\d)\{,\}(?=\d)", "."),
    (r"(?<=\d)\s*(?:\\[,;:]|~|\\ )\s*(?=\d{3}(?!\d))", ""),
    # Ordinals, currency, blackboard letters
    (r"(?:(?<=1)st|(?<=2)nd|(?<=3)rd|(?<=\d)th)(?![a-zA-Z])", ""),
    (r"(?<=\d)(?:\^\s*\{?)?\s*\\(?:text|mathrm)\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}?", ""),
    (r"(?:\{\})?[_^]\{?(\w)\}?\s*C\s*_\s*\{?(\w)\}?|(?<![\w.])(\d+)\s*C\s*_?\{?(\d+)\}?(?!\w)", r"\\binom{\1\3}{\2\4}"),
    (r"(?<![a-zA-Z\\{])USD(?![a-zA-Z])", r" \\text{dollars} "),
    (r"\\mathbf\s*\{\s*([RZQCN])\s*\}", r"\\mathbb{\1}"),
    # Marks of the page, not of the mathematics
    (r"\\\$", r" \\text{dollars} "),
    (r"\$", " "),
    (r"(?<!\\)\\[()\[\]]", " "),
    (r"\\(?:[bB]igg?[lrm]?|left|right|middle)\s*\.", " "),
    (r"\\(?:[bB]igg?[lrm]?|left|right|middle)(?![a-zA-Z])", ""),
    (r"\\(?:display|text|script|scriptscript)style(?![a-zA-Z])", " "),
    (r"\\(?:limits|nolimits|rm|bf|it|hline|[Hh]uge|LARGE|[lL]arge|normalsize|small|footnotesize|scriptsize|tiny|strut|bfseries"
     r"|boldmath|mathstrut)(?![a-zA-Z])", " "),
    (r"\\(?:textcolor|color|colorbox)\s*\{[^{}]*\}", " "),
    (r"\\(?:underline|underbar|boxed|fbox|mathop|ensuremath|emph|uline)\s*(?=\{)", " "),
    (r"\\(?:quad|qquad|enspace|thinspace|hspace\*?\{[^{}]*\}|phantom\{[^{}]*\})(?![a-zA-Z])", " "),
    (r"(\\\\)|\\[,;:!> ]|~", r"\1 "),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
    (r"(?<=\\mathbb|\\mathrm|\\mathbf|\\mathit|\\mathsf)\s+([a-zA-Z])(?![a-zA-Z])", r"{\1}"),
    (r"\\(?:mathbf|vec|hat|boldsymbol|bm)\s*\{?\s*\\?([ijk])(?:math)?(?![a-zA-Z])\s*\}?", r" \\unit\1 "),
    (r"(?<=[\d})\s°])\\mathrm\s*\{\s*([mgshlLJNWKVACFT])\s*\}", r" \\text{\1}"),
    (r"\\(?:mathrm|mathit|mathbf|mathsf|operatorname\*?|mathop)\s*\{\s*([a-zA-Z])\s*\}", r" \1 "),
    (r"\\(?:text|mbox|text(?:bf|it|rm|sf)|math(?:rm|it|bf|sf)|boldsymbol)\s*\{([^{}a-zA-Z\\一-鿿]*)\}", r" \1 "),
    (r"(?<=\d)\s*(?:\\text\s*\{\s*)?([aApP])\.?\s?[mM]\b\.?(?:\s*\})?", r" \\text{\1m}"),
    (r"\b[pP]er cent\b", "percent"),
    (r"(?<![\w.])0[xX]([0-9a-fA-F]+)(?!\w)", r"\1_{16}"),
    (r"\\pmod\s*(\{[^{}]*\}|\d|[a-zA-Z])|\\pmod\s*", r" \\text{mod} \1 "),
    (r"\\(?:b?mod)(?![a-zA-Z])", r" \\text{mod} "),
    (r"\(\s*((?:\\(?:text|mathrm)\s*\{\s*)?mod\b[^()]{1,40})\)", r" \1 "),
    (r"\\(?:text|mathrm|textbf|mathbf|operatorname\*?)\s*\{\s*(sin|cos|tan|cot|csc|ln|log|lg|exp|arcsin|arccos|arctan)\s*\}",
     r"\\\1 "),
    (r"[\[(]?\s*\\begin\s*\{array\}\s*\{[lcr| ]*\}", r"\\begin{pmatrix}"),
    (r"\\end\s*\{array\}\s*[\])]?", r"\\end{pmatrix}"),
    (r"\\(?:lt)(?![a-zA-Z])", "<"),
    (r"\\(?:gt)(?![a-zA-Z])", ">"),
    (r"\\(?:percent)(?![a-zA-Z])|\\%", "%"),
    (r"\\degree(?:s)?(?![a-zA-Z])|\^\s*\\circ(?![a-zA-Z])|\^\s*\{\s*\\circ\s*\}", "°"),
    (r"°\s*(?:\\text\s*\{\s*)?([CF])(?![a-zA-Z])\s*\}?", r" \\text{deg\1} "),
    (r"<=|=<", r"\\le "),
    (r">=", r"\\ge "),
    (r"!=", r"\\ne "),
    (r"\+/-|^\s*\+-", r"\\pm "),
    (r"\*\*(?=\s*[\d{(+-])(?<=[\w)}\]]\*\*)", "^"),
    (r"\.{3,}", r"\\ldots "),
    (r"(?<![\d)}\]])\](-?[^\[\],;]{1,60})([,;])([^\[\],;]{1,60})\[", r"(\1\2\3)"),  # ]0, 1[
    (r"(?<![\d)}\]])\](-?[^\[\],;]{1,60})([,;])([^\[\],;]{1,60})\]", r"(\1\2\3]"),
    (r"\[([^\[\],;]{1,60})([,;])([^\[\],;]{1,60})\[", r"[\1\2\3)"),
])  # fmt: skip
_INFIX = re.compile(r"\\(over|choose)(?![a-zA-Z])")
_EATEN = re.compile(
    r"[\x07\x08\x0b\x0c]|\t(?=ext[a-z]*\s*\{|frac|imes|heta|au\b|an\b|anh|o\b|herefore|binom|riangle)"
    r"|\r(?=ight|angle|ho\b)|\n(?=eq\b|abla)"
)
_ESCAPES = {"\a": r"\a", "\b": r"\b", "\v": r"\v", "\f": r"\f", "\t": r"\t", "\r": r"\r", "\n": r"\n"}
_IDLE_BLANK = re.compile(r"(?<!\w) | (?!\w)")
_EDGE_MARKS = ' \t\n\r.,;:`*_"'


@lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """``text`` with unicode as LaTeX, no page marks (dollars, sizes, spaces), no stray edge marks.

    Linear in the text: no rule has a nested repeat.
    """
    text = _VULGAR.sub(_vulgar_fraction, with_backslashes(text))
    text = _SCRIPTED.sub(_script, text)
    text = unicodedata.normalize("NFKC", text.translate(_TRANSLATION))
    for pattern, new in _RULES:
        text = pattern.sub(new, text)
    return _strip_edges(_infix(text))


def with_backslashes(text: str) -> str:
    """``text`` with the backslashes that a string literal has eaten: a form feed and "rac" as ``\\frac``."""
    return _EATEN.sub(lambda match: _ESCAPES[match.group()], text)


def _infix(text: str) -> str:
    """{a \\over b} and {n \\choose k} as commands with two arguments."""
    for _ in range(20):
        match = _INFIX.search(text)
        if not match:
            break
        start, end = _group_around(text, match.start())
        parts = text[start : match.start()], text[match.end() : end]
        name = {"over": "frac", "choose": "binom"}[match.group(1)]
        text = f"{text[:start]}\\{name}{{{parts[0]}}}{{{parts[1]}}}{text[end:]}"
    return text


def _group_around(text: str, place: int) -> tuple[int, int]:
    """Where the content of the innermost group around ``place`` starts and ends."""
    ends = []
    for step, opener, closer in ((-1, "{", "}"), (1, "}", "{")):
        at, depth = (place - 1 if step < 0 else place), 0
        while 0 <= at < len(text) and not (text[at] == opener and depth == 0):
            depth += (text[at] == closer) - (text[at] == opener)
            at += step
        ends.append(at)
    return ends[0] + 1, ends[1]


def squeeze(text: str) -> str:
    """``text`` cleaned and without blanks that say nothing: 3 1/2 keeps its own, it is not 31/2."""
    return _IDLE_BLANK.sub("", " ".join(clean(text).split()))


def _strip_edges(text: str) -> str:
    """Drop sentence marks, emphasis and braces without a partner at both ends."""
    before = None
    while before != text:
        before = text
        text = text.strip()
        while text and text[-1] in _EDGE_MARKS:
            text = text[:-1]
        while text and text[0] in " \t\n\r,;:`*_\"'":
            text = text[1:]
        if text.endswith("}") and not text.endswith("\\}") and text.count("{") < text.count("}"):
            text = text[:-1]
        text = text.rstrip("\\")
    return text


def _vulgar_fraction(match: re.Match[str]) -> str:
    """½ as \\frac{1}{2}."""
    top, bottom = unicodedata.normalize("NFKC", match.group()).split("⁄")
    return f"\\frac{{{top}}}{{{bottom}}}"


def _script(match: re.Match[str]) -> str:
    """² as ^{2}, ₂ as _{2}."""
    raised, lowered = match.groups()
    return f"^{{{raised.translate(_SUPERSCRIPTS)}}}" if raised else f"_{{{lowered.translate(_SUBSCRIPTS)}}}"
