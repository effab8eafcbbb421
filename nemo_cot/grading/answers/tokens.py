# ruff: noqa: RUF001  (the signs of mathematics are meant as they stand)
"""Cut cleaned LaTeX into tokens with one spelling for each operator."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nemo_cot.grading.answers.latex_text import clean
from nemo_cot.grading.answers.tables import table, word_set

MAX_CHARACTERS = 2000
"""Answers longer than this are not read: the longest gold of the benchmarks has 170."""

MAX_TOKENS = 800
MAX_DIGITS = 1500
"""Digits of one number; Python itself refuses to read more than 4300."""


class Unreadable(Exception):
    """The text is not an answer of a kind that is read here. ``reason`` is an id of a Verdict.

    ``malformed`` says that nobody could read it (a doubled sign), not just that we do not.
    """

    def __init__(self, reason: str, *, malformed: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.malformed = malformed


@dataclass(frozen=True)
class Token:
    """``kind``: number, name (a variable), function, constant, op, text (words), command.

    ``spaced`` tells whether white space stood before it: "3 1/2" is not "31/2".
    """

    kind: str
    value: str
    spaced: bool = False


FUNCTIONS = word_set("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp")
CONSTANTS = {
    "pi": "pi",
    "infty": "oo",
    "infinity": "oo",
    "inf": "oo",
    "oo": "oo",
    "e": "e",
    "i": "i",
    "imath": "i",
}

_OPERATORS = {**table("operators"), "quad": " "}
_GREEK = word_set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell"
)
_WORDS = word_set(
    "and or if for all the is are any no yes none not odd even one two six ten with where when such that of to only "
    "iff then each every true false per mod cm mm km ft kg in min deg pct rad mol mph lbs hrs sec dne"
)
UNIT_LETTERS = frozenset("mgshlLJNWKVACFT")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_PLAIN_WORDS = re.compile(r"[^\W\d_](?:[^\W\d_]|[ .,;:'’?!-])*")
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<scientific>\d+\.\d+[eE][-+]?\d{1,3}(?![\d.]))"
    r"|(?P<number>\d+(?:\.\d+|\.(?=\s*\\overline))?|\.\d+)"
    r"|\\(?:text(?:bf|it|rm|sf|tt|up|normal)?|mbox|math(?:rm|bf|it|sf|tt)|operatorname|hbox)\*?\s*(?P<texted>\{)"
    r"|\\(?P<command>[a-zA-Z]+)"
    r"|(?P<row>\\\\)(?:\[[^\]]*\])?"
    r"|\\(?P<escaped>[{}|#&_])"
    r"|(?P<letters>[a-zA-Z]+|[一-鿿]+)"
    r"|(?P<op>[-+*/^_()\[\]{}|,;=<>!%°:'&])"
)


def tokenize(text: str) -> tuple[Token, ...]:
    """Tokens of ``text``, which is cleaned first. Raises Unreadable for what no token fits."""
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(f"too-long: {len(text)} characters")
    return tuple(_tokenize(clean(text), texted=False))


def _tokenize(text: str, *, texted: bool) -> list[Token]:
    """``texted``: the text stands in ``\\text{}``, where runs of letters are words."""
    tokens: list[Token] = []
    position, spaced = 0, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise Unreadable(f"unknown-character: {text[position]!r}")
        position = match.end()
        if match.lastgroup == "texted":
            end = _closing(text, position)
            found = _words(text[position:end], spaced)
            position = end + 1
        else:
            found = (
                _words(match.group(), spaced)
                if texted and match.lastgroup == "letters"
                else _tokens_of(match, spaced)
            )
        needed = bool(tokens) and tokens[-1].kind in ("name", "constant") and len(tokens[-1].value) > 1
        spaced = match.lastgroup == "space" and len(match.group()) > needed  # \theta x needs its blank
        tokens.extend(found)
        if len(tokens) > MAX_TOKENS:
            raise Unreadable("too-long: too many tokens")
    for place, token in enumerate(tokens):  # + C is no unit
        if token.kind == "text" and token.value in UNIT_LETTERS and tokens[place - 1 : place] and (
                tokens[place - 1].value in ("+", "-", "=", "^", "_")):  # fmt: skip
            tokens[place] = Token("name", token.value, token.spaced)
    if tokens and tokens[-1] == Token("function", "sec", tokens[-1].spaced):  # 30 sec
        tokens[-1] = Token("text", "sec", True)
    return tokens


def _closing(text: str, position: int) -> int:
    """Where the group closes whose content starts at ``position``."""
    depth = 1
    for at in range(position, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if not depth:
            return at
    raise Unreadable("syntax: '}' missing")


def _words(content: str, spaced: bool) -> list[Token]:
    """The words of a text, one by one; its formulas as such. A lone letter is a name, or a unit."""
    content = content.strip(" .;:")
    words = content.strip(",")
    if not _PLAIN_WORDS.fullmatch(words):
        inner = _tokenize(content, texted=True)
        return [Token(t.kind, t.value, t.spaced or (spaced and not i)) for i, t in enumerate(inner)]
    if words in CONSTANTS or (len(words) == 1 and words not in UNIT_LETTERS and words.isascii()):
        return _letters(words, spaced)
    return [Token("text", word, True) for word in _WORD.findall(words)]


def _tokens_of(match: re.Match[str], spaced: bool) -> list[Token]:
    """The tokens of one match; several for a run of letters that is a product."""
    kind = match.lastgroup
    text = match.group(kind)
    if kind == "space":
        return []
    if kind == "number" and len(text) > MAX_DIGITS:
        raise Unreadable(f"too-large: a number of {len(text)} digits")
    if kind in ("number", "scientific"):
        return [Token("number", text, spaced)]
    if kind == "command":
        return [_command(text, spaced)]
    if kind == "letters":
        return _letters(text, spaced)
    if kind == "escaped":
        text = {"{": "⦃", "}": "⦄"}.get(text, text)
    return [Token("op", text, spaced)]


def _command(name: str, spaced: bool) -> Token:
    """Token of ``\\name``. Unknown commands stay commands: they are left to math-verify."""
    if name in _OPERATORS:
        return Token("op", _OPERATORS[name], spaced)
    if name in FUNCTIONS:
        return Token("function", name, spaced)
    if name.startswith("unit") and name[4:] in ("i", "j", "k"):
        return Token("name", name, spaced)
    if name in CONSTANTS and len(name) > 1:
        return Token("constant", CONSTANTS[name], spaced)
    if name in _GREEK:
        return Token("name", name.removeprefix("var"), spaced)
    return Token("command", name, spaced)


def _letters(run: str, spaced: bool) -> list[Token]:
    """A run of plain letters: a function, a constant, a word, or a product of variables."""
    if not run.isascii():
        return [Token("text", run, spaced)]
    if run in FUNCTIONS:
        return [Token("function", run, spaced)]
    if run in ("sqrt", "frac", "binom", "abs"):
        return [Token("command", run, spaced)]
    if run in CONSTANTS:
        return [Token("constant", CONSTANTS[run], spaced)]
    if len(run) > 3 or run.lower() in _WORDS:
        return [Token("text", run, spaced)]
    return [_one_letter(letter, spaced and index == 0) for index, letter in enumerate(run)]


def _one_letter(letter: str, spaced: bool) -> Token:
    if letter in ("e", "i"):
        return Token("constant", letter, spaced)
    return Token("name", letter, spaced)
