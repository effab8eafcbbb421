# ruff: noqa: RUF001  (the signs of mathematics are meant as they stand)
"""Cut, expand and print lists of tokens: what stands between brackets, commas and relation signs."""

from __future__ import annotations

from nemo_cot.grading.answers.tokens import Token, Unreadable

Tokens = tuple[Token, ...]

MAX_EXPANSIONS = 16
"""Answers that the signs of plus-minus may expand to."""

_OPENERS, _CLOSERS = "([{⦃⟨⌊⌈", ")]}⦄⟩⌋⌉"
_SEPARATOR_WORDS = frozenset(["and", "or"])


def split(tokens: Tokens) -> list[Tokens]:
    """Cut at commas, semicolons, "and", "or" outside brackets. Environments count as brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += depth_change(token)
        if depth <= 0 and _separates(token):
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(p) for p in parts if p]


def depth_change(token: Token) -> int:
    if token.kind == "command":
        return {"begin": 1, "end": -1}.get(token.value, 0)
    if token.kind != "op":
        return 0
    return (token.value in _OPENERS) - (token.value in _CLOSERS)


def _separates(token: Token) -> bool:
    if token.kind == "op":
        return token.value in (",", ";", "∨")
    return token.kind == "text" and token.value.lower().strip(" ,.;:") in _SEPARATOR_WORDS


def cut_at(tokens: Tokens, operator: str) -> list[Tokens]:
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += depth_change(token)
        if depth == 0 and token.kind == "op" and token.value == operator:
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(p) for p in parts if p]


def one_pair(tokens: Tokens) -> bool:
    """Whether the first bracket closes at the last token. Round and square may pair (intervals)."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += depth_change(token)
        if depth == 0:
            return index == len(tokens) - 1
    return False


def without_group(tokens: Tokens) -> Tokens:
    """``{x = 5}`` as ``x = 5``."""
    while len(tokens) > 2 and tokens[0].value == "{" and tokens[-1].value == "}" and one_pair(tokens):
        tokens = tokens[1:-1]
    return tokens


def plain(tokens: Tokens) -> str:
    """The tokens as text: words apart, formulas together."""
    text = "".join((" " if t.kind == "text" or t.spaced else "") + t.value.strip() for t in tokens)
    return " ".join(text.split())


def has_plus_minus(tokens: Tokens) -> bool:
    return any(t.kind == "op" and t.value in "±∓" for t in tokens)


def expand(tokens: Tokens) -> list[Tokens]:
    """Answers that plus-minus stands for: independent signs, but tied together where ∓ occurs."""
    places = [i for i, t in enumerate(tokens) if t.kind == "op" and t.value in "±∓"]
    if not places:
        return [tokens]
    tied = any(tokens[i].value == "∓" for i in places)
    count = 2 if tied else 2 ** len(places)
    if count > MAX_EXPANSIONS:
        raise Unreadable("unsupported: too many plus-minus signs")
    expansions = []
    for choice in range(count):
        signs = [
            ((choice if tied else choice >> n) & 1) ^ (tokens[i].value == "∓") for n, i in enumerate(places)
        ]
        changed = list(tokens)
        for place, minus in zip(places, signs):
            changed[place] = Token("op", "-" if minus else "+", tokens[place].spaced)
        expansions.append(tuple(changed))
    return expansions


def thousands_value(tokens: Tokens) -> int | None:
    """12,345 as a number: groups of three digits, no blanks. 12 345 too."""
    if (
        len(tokens) < 2
        or tokens[0].kind != "number"
        or not tokens[0].value.isdigit()
        or len(tokens[0].value) > 3
    ):
        return None
    groups = [t for t in tokens if t.kind == "number"]
    commas = [t for t in tokens if t.kind == "op" and t.value == ","]
    if any(len(g.value) != 3 or not g.value.isdigit() for g in groups[1:]) or tokens[0].value.startswith("0"):
        return None
    if len(groups) == len(tokens) and all(t.spaced for t in tokens[1:]):
        return int("".join(g.value for g in groups))
    alternate = len(tokens) == 2 * len(groups) - 1 and all(t.kind == "number" for t in tokens[::2])
    if not alternate or len(commas) != len(groups) - 1 or any(t.spaced for t in tokens[1:]):
        return None
    return int("".join(g.value for g in groups))
