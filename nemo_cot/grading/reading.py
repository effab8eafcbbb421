r"""Read a text as an answer: which kind it is, and its parts.

One text can have several readings: (1,2) is a point and an open interval, 1,234 is a number and
a list. The first reading is the likelier one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from nemo_cot.grading.answers import (
    Answer,
    Choice,
    Interval,
    Items,
    Matrix,
    Named,
    Numeral,
    RealSet,
    Scalar,
    Unread,
    Words,
)
from nemo_cot.grading.expression import Node, number, parse_expression, symbols
from nemo_cot.grading.intervals import INFINITY, MINUS_INFINITY, WHOLE_LINE, intersection, line_without
from nemo_cot.grading.latex_text import clean
from nemo_cot.grading.scalars import compare_scalars
from nemo_cot.grading.tokens import Token, Unreadable, tokenize

Tokens = tuple[Token, ...]

MAX_EXPANSIONS = 16
"""Answers that the signs of plus-minus may expand to."""

_OPENERS, _CLOSERS = "([{⦃⟨⌊⌈", ")]}⦄⟩⌋⌉"
_LEADING = frozenset(
    ["the", "final", "answer", "is", "result", "value", "of", "approximately", "about", "exactly", "equals", "therefore", "thus", "so", "hence", "we", "get", "have", "it", "total", "a", "an", "required", "solution", "solutions", "are", "answers", "option", "choice", "x"]
) - {"x"}
_EMPTY = frozenset(["no solution", "no solutions", "none", "does not exist", "dne", "no real solution",
                    "no real solutions", "empty set", "the empty set", "no such"])  # fmt: skip
_ALL_REALS = frozenset(["all real numbers", "all reals", "all real", "real numbers", "the real numbers"])
_SEPARATOR_WORDS = frozenset(["and", "or"])
_LOGIC = frozenset(
    ["if", "for", "all", "is", "are", "any", "such", "that", "where", "when", "with", "iff", "only", "prime", "primes", "integer", "integers", "positive", "negative", "number", "numbers", "every", "each", "not", "works", "then", "satisfying", "form", "of"]
)
_NUMBER_WORDS = {w: i for i, w in enumerate(
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"])}  # fmt: skip
_WRAPPER = re.compile(r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mbox|boxed)\s*(?=\{)|[{}\\]")
_CHOICE = re.compile(r"(?:(?:option|choice|answer)\b\s*:?\s*)?(\(?)\s*([A-J])\s*(?:([).:])\s*(.*)|$)", re.DOTALL | re.IGNORECASE)


@lru_cache(maxsize=20_000)
def read(text: str) -> tuple[Answer, ...]:
    """The readings of ``text``, at least one. Never raises for any text."""
    try:
        tokens = tokenize(text)
        if not tokens:
            return (Words("", "label"),)
        return _readings(tokens)
    except Unreadable as problem:
        return (_unread(text, problem),)
    except (RecursionError, MemoryError):
        return (Unread("", "too-deep"),)


def read_choice(text: str) -> Choice | None:
    """``text`` as a letter of a multiple choice: C, (C), \\text{C}, C) 12, Option C. None for other text."""
    if len(text) > 200:
        return None
    match = _CHOICE.fullmatch(_WRAPPER.sub(" ", clean(text)).strip())
    if not match:
        return None
    rest = (match.group(4) or "").strip()
    return Choice(match.group(2).upper(), read(rest)[0] if rest else None)


def _unread(text: str, problem: Unreadable) -> Unread:
    too_big = problem.reason.startswith(("too-", "unknown-character"))
    return Unread("" if too_big else clean(text), problem.reason, problem.malformed)


def _readings(tokens: Tokens) -> tuple[Answer, ...]:
    if any(t.kind == "op" and t.value == "…" for t in tokens):
        return (Words(_plain(tokens), "ellipsis"),)
    tokens = _without_leading_words(tokens)
    special = _special_words(tokens)
    if special is not None:
        return (special,)
    if any(t.kind == "text" and _some_word(t.value, _LOGIC) for t in tokens):
        return (Words(_plain(tokens), "prose"),)
    thousands = _thousands(tokens)
    if thousands is not None:
        listed = Items(tuple(Scalar(number(int(t.value))) for t in tokens if t.kind == "number"), "list")
        scalar = Scalar(number(thousands))
        # Four groups and more are a list: nobody writes 98,118,122,142 for a hundred billion
        return (listed, scalar) if len(listed.items) > 3 else (scalar, listed)
    parts = _split(tokens)
    braced = tokens[0].value == "⦃" and _one_pair(tokens)
    if len(parts) > 1 or (_plus_minus(tokens) and not braced):
        return (_list_of(parts, "list", tokens),)
    return _one(tokens)


def _one(tokens: Tokens) -> tuple[Answer, ...]:
    """Readings of an answer without a separator at the top."""
    for reader in (_set_algebra, _relation, _bracketed, _matrix):
        found = reader(tokens)
        if found:
            return found
    return (_scalar(tokens),)


# Lists


def _split(tokens: Tokens) -> list[Tokens]:
    """Cut at commas, semicolons, "and", "or" outside brackets. Environments count as brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for index, token in enumerate(tokens):
        depth += _depth_change(token)
        if depth <= 0 and _separates(token):
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(p) for p in parts if p]


def _depth_change(token: Token) -> int:
    if token.kind == "command":
        return {"begin": 1, "end": -1}.get(token.value, 0)
    if token.kind != "op":
        return 0
    return (token.value in _OPENERS) - (token.value in _CLOSERS)


def _separates(token: Token) -> bool:
    if token.kind == "op":
        return token.value in (",", ";", "∨")
    return token.kind == "text" and token.value.lower().strip(" ,.;:") in _SEPARATOR_WORDS


def _list_of(parts: Sequence[Tokens], kind: str, whole: Tokens) -> Answer:
    """Items out of parts, plus-minus expanded. Prose in any part makes the whole prose."""
    items: list[Answer] = []
    for part in parts:
        for expanded in _expand(part):
            items.append(_one(expanded)[0])
    if any(isinstance(i, Words) for i in items):
        return Words(_plain(whole), "prose")
    bad = next((i for i in items if isinstance(i, Unread)), None)
    if bad is not None:
        return Unread("", bad.reason, bad.malformed)
    if kind == "list" and items and all(isinstance(i, RealSet) for i in items):
        return _joined(items, either=any(t.value.lower() in ("or", "∨") for t in whole))
    if len(items) == 1 and kind == "list":
        return items[0]
    return Items(tuple(_with_common_name(items)), kind)


def _with_common_name(items: list[Answer]) -> list[Answer]:
    """x = 1, 2 names both: the name of the first is dropped when the others have none."""
    if isinstance(items[0], Named) and not any(isinstance(i, Named) for i in items[1:]):
        return [items[0].value, *items[1:]]
    return items


def _joined(sets: list[RealSet], *, either: bool) -> RealSet:
    """One set out of several conditions: both hold, unless the text says "or" or nothing is in both."""
    names = {s.variable for s in sets if s.variable}
    if len(names) > 1:
        raise Unreadable("unsupported: inequalities in several variables")
    both = sets[0].intervals
    for other in sets[1:]:
        both = tuple(intersection(both, other.intervals))
    union = tuple(i for s in sets for i in s.intervals)
    return RealSet(union if either or not both else both, next(iter(names), ""))


def _plus_minus(tokens: Tokens) -> bool:
    return any(t.kind == "op" and t.value in "±∓" for t in tokens)


def _expand(tokens: Tokens) -> list[Tokens]:
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
        signs = [((choice if tied else choice >> n) & 1) ^ (tokens[i].value == "∓") for n, i in enumerate(places)]
        changed = list(tokens)
        for place, minus in zip(places, signs):
            changed[place] = Token("op", "-" if minus else "+", tokens[place].spaced)
        expansions.append(tuple(changed))
    return expansions


def _thousands(tokens: Tokens) -> int | None:
    """12,345 as a number: groups of three digits, no blanks. 12 345 too."""
    if len(tokens) < 2 or tokens[0].kind != "number" or not tokens[0].value.isdigit() or len(tokens[0].value) > 3:
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


# Words


def _without_leading_words(tokens: Tokens) -> Tokens:
    """Drop "the answer is" and its like before the first formula, and a full stop's leftovers."""
    start = 0
    while start < len(tokens) and (
        (tokens[start].kind == "text" and _all_words(tokens[start].value, _LEADING))
        or (start and tokens[start].kind == "op" and tokens[start].value in ":≈=")
    ):
        start += 1
    if start < len(tokens) and tokens[0].kind == "op" and tokens[0].value in "≈=":
        return tokens[1:]
    return tokens[start:] if start < len(tokens) else tokens


def _all_words(text: str, words: frozenset[str]) -> bool:
    found = re.findall(r"[a-z]+", text.lower())
    return bool(found) and all(w in words for w in found)


def _some_word(text: str, words: frozenset[str]) -> bool:
    return any(w in words for w in re.findall(r"[a-z]+", text.lower()))


def _special_words(tokens: Tokens) -> Answer | None:
    """The empty set, all reals, a number in words, or other words without any formula."""
    if len(tokens) == 1 and tokens[0].kind == "command" and tokens[0].value in ("emptyset", "varnothing"):
        return RealSet(())
    if not all(t.kind in ("text", "name", "constant") or t.value in "'-&" for t in tokens):
        return None
    if not any(t.kind == "text" for t in tokens):
        return None
    if all(len(t.value) <= 2 and t.value.lower() not in ("no",) for t in tokens if t.kind == "text"):
        return None
    plain = _plain(tokens).lower()
    if plain in _EMPTY:
        return RealSet(())
    if plain in _ALL_REALS:
        return RealSet((WHOLE_LINE,))
    if plain in _NUMBER_WORDS:
        return Scalar(number(_NUMBER_WORDS[plain]))
    words = plain.split()
    return Words(plain, "label" if len(words) <= 2 else "prose")


def _plain(tokens: Tokens) -> str:
    """The tokens as text: words apart, formulas together."""
    text = "".join((" " if t.kind == "text" or t.spaced else "") + t.value.strip() for t in tokens)
    return " ".join(text.split())


# Brackets


def _bracketed(tokens: Tokens) -> tuple[Answer, ...]:
    """(a, b), [a, b), {a, b}, ⟨a, b⟩ when one pair of brackets holds it all."""
    opener, closer = tokens[0].value, tokens[-1].value
    if tokens[0].kind != "op" or tokens[-1].kind != "op" or opener not in "([⦃⟨" or closer not in ")]⦄⟩":
        return ()
    if not _one_pair(tokens):
        return ()
    inner = tokens[1:-1]
    parts = _split(inner)
    if opener == "⦃" and closer == "⦄":
        if any(t.kind == "op" and t.value in "|:" for t in inner):
            raise Unreadable("unsupported: set-builder")
        return (_list_of(parts, "set", tokens) if parts else RealSet(()),)
    if len(parts) < 2 or "⦃" in (opener, closer) or "⦄" in (opener, closer):
        return ()
    readings: list[Answer] = []
    if (opener, closer) in (("(", ")"), ("⟨", "⟩")) or (len(parts) > 2 and (opener, closer) == ("[", "]")):
        readings.append(_list_of(parts, "tuple", tokens))
    if len(parts) == 2 and opener in "([" and closer in ")]":
        interval = _interval(parts, opener == "(", closer == ")")
        if interval is not None:
            readings.append(RealSet((interval,)))
    if readings and _is_infinite(parts):
        readings = [r for r in readings if isinstance(r, RealSet)]
    return tuple(readings)


def _is_infinite(parts: Sequence[Tokens]) -> bool:
    return any(t.kind == "constant" and t.value == "oo" for p in parts for t in p)


def _one_pair(tokens: Tokens) -> bool:
    """Whether the first bracket closes at the last token. Round and square may pair (intervals)."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += _depth_change(token)
        if depth == 0:
            return index == len(tokens) - 1
    return False


def _interval(parts: Sequence[Tokens], low_open: bool, high_open: bool) -> Interval | None:
    try:
        low, high = (parse_expression(p).node for p in parts)
    except Unreadable:
        return None
    if symbols(low) or symbols(high):
        return None
    return Interval(low, high, low_open or _infinite(low), high_open or _infinite(high))


def _infinite(node: Node) -> bool:
    return node in (INFINITY, MINUS_INFINITY)


# Unions


def _set_algebra(tokens: Tokens) -> tuple[Answer, ...]:
    """A ∪ B, R, R without some points, x in A."""
    member = _cut_at(tokens, "∈")
    if len(member) == 2 and len(member[0]) <= 4:
        inner = _one(member[1])
        sets = [s for s in inner if isinstance(s, RealSet)]
        return (RealSet(sets[0].intervals, _plain(member[0])),) if sets else inner
    parts = _cut_at(tokens, "∪")
    if len(parts) > 1:
        return (_union(parts),)
    without = _cut_at(tokens, "∖")
    if len(without) == 2 and _is_reals(without[0]):
        removed = _one(without[1])[0]
        if isinstance(removed, Items) and all(isinstance(i, Scalar) for i in removed.items):
            return (RealSet(line_without(i.node for i in removed.items)),)
    return (RealSet((WHOLE_LINE,)),) if _is_reals(tokens) else ()


def _cut_at(tokens: Tokens, operator: str) -> list[Tokens]:
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += _depth_change(token)
        if depth == 0 and token.kind == "op" and token.value == operator:
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(p) for p in parts if p]


def _is_reals(tokens: Tokens) -> bool:
    return [t.value for t in tokens] == ["mathbb", "{", "R", "}"]


def _union(parts: Sequence[Tokens]) -> Answer:
    intervals: list[Interval] = []
    for part in parts:
        found = _one(part)
        piece = next((f for f in found if isinstance(f, RealSet)), found[0])
        if isinstance(piece, RealSet):
            intervals.extend(piece.intervals)
        elif isinstance(piece, Items) and piece.kind == "set" and all(isinstance(i, Scalar) for i in piece.items):
            intervals.extend(Interval(i.node, i.node, False, False) for i in piece.items)
        else:
            raise Unreadable("unsupported: union")
    return RealSet(tuple(intervals))




# Relations


_RELATIONS = "=<>≤≥≠≈"


def _relation(tokens: Tokens) -> tuple[Answer, ...]:
    """Equations and inequalities."""
    sides, operators = _sides(tokens)
    if not operators:
        return ()
    if any(not s for s in sides):
        raise Unreadable("syntax: a relation without a side")
    if set(operators) <= {"=", "≈"}:
        return _equation(sides, operators)
    if operators == ["≠"]:
        if not _is_name(sides[0]):
            raise Unreadable("unsupported: inequation")
        return (RealSet(line_without([parse_expression(sides[1]).node]), _plain(sides[0])),)
    return (_inequality(sides, operators),)


def _sides(tokens: Tokens) -> tuple[list[Tokens], list[str]]:
    sides: list[list[Token]] = [[]]
    operators: list[str] = []
    depth = 0
    for token in tokens:
        depth += _depth_change(token)
        if depth == 0 and token.kind == "op" and token.value in _RELATIONS:
            sides.append([])
            operators.append(token.value)
        else:
            sides[-1].append(token)
    return [tuple(s) for s in sides], operators


def _equation(sides: list[Tokens], operators: list[str]) -> tuple[Answer, ...]:
    """``x = 5``, ``y = 2x + 3``, ``1/3 ≈ 0.333``: the last exact side is the value."""
    exact = len(sides) if "≈" not in operators else max(1, operators.index("≈") + 1)
    constant = _is_constant(sides[0])
    if exact == 1 and not constant:
        exact = 2  # x ≈ 0.36: there is nothing else
    if not constant:
        left = sides[0]
        values = [_one(s)[0] for s in _expand(sides[exact - 1])] if exact > 1 else []
        value = values[0] if len(values) == 1 else Items(tuple(values), "list")
        return (Named(_plain(left).replace(" ", ""), value, _node_or_none(left)),)
    readings = [_one(s)[0] for s in sides[:exact]]
    if any(not isinstance(r, Scalar) for r in readings):
        return (readings[-1],)
    if any(compare_scalars(readings[0].node, r.node).equal is False for r in readings[1:]):
        raise Unreadable("malformed: the two sides of the equation differ")
    return (readings[-1],)


def _is_constant(tokens: Tokens) -> bool:
    """Whether a side names nothing: no variable, no command like an angle, no word."""
    node = _node_or_none(tokens)
    if node is None:
        return False
    return not symbols(node) and node.op != "const"


def _node_or_none(tokens: Tokens) -> Node | None:
    try:
        return parse_expression(tokens).node
    except Unreadable:
        return None


def _is_name(tokens: Tokens) -> bool:
    node = _node_or_none(tokens)
    return node is not None and node.op == "sym"


def _inequality(sides: list[Tokens], operators: list[str]) -> RealSet:
    """``x > 1``, ``1 < x \\le 2`` with the variable alone on its side."""
    if set(operators) <= {">", "≥"}:
        sides, operators = sides[::-1], [{">": "<", "≥": "≤"}[o] for o in operators[::-1]]
    if not set(operators) <= {"<", "≤"} or len(sides) > 3:
        raise Unreadable("unsupported: chain of inequalities")
    names = [i for i, s in enumerate(sides) if _is_name(s)]
    if len(names) != 1 or (len(sides) == 3 and names != [1]):
        raise Unreadable("unsupported: inequality that is not solved for a variable")
    place = names[0]
    low, low_open = (sides[place - 1], operators[place - 1] == "<") if place else (None, True)
    high, high_open = (sides[place + 1], operators[place] == "<") if place + 1 < len(sides) else (None, True)
    ends = [d if s is None else parse_expression(s).node for s, d in ((low, MINUS_INFINITY), (high, INFINITY))]
    if any(symbols(e) for e in ends):
        raise Unreadable("unsupported: inequality between variables")
    interval = Interval(ends[0], ends[1], low_open or _infinite(ends[0]), high_open or _infinite(ends[1]))
    return RealSet((interval,), _plain(sides[place]))


# Matrices


def _matrix(tokens: Tokens) -> tuple[Answer, ...]:
    """A pmatrix or bmatrix, with a factor before it."""
    begin = next((i for i, t in enumerate(tokens) if t.kind == "command" and t.value == "begin"), None)
    if begin is None:
        return ()
    name = tokens[begin + 2].value if len(tokens) > begin + 3 else ""
    body = tokens[begin + 4 : -4]
    if name not in ("pmatrix", "bmatrix", "matrix", "smallmatrix") or tokens[-4].value != "end":
        raise Unreadable(f"unsupported: environment {name}")
    rows = [[parse_expression(c).node for c in _cut_at(r, "&")] for r in _cut_at(body, "\\\\")]
    if not rows or len({len(r) for r in rows}) != 1:
        raise Unreadable("syntax: rows of different length")
    if begin:
        factor = parse_expression(tokens[:begin]).node
        rows = [[Node("mul", (factor, c)) for c in r] for r in rows]
    return (Matrix(tuple(tuple(r) for r in rows)),)


# Numbers and expressions


def _scalar(tokens: Tokens) -> Answer:
    """An expression with a unit, a numeral with a base; words where there is no expression."""
    numeral = _numeral(tokens)
    if numeral is not None:
        return numeral
    body, unit = _cut_unit(tokens)
    if not body or any(t.kind == "text" for t in body):
        return Words(_plain(tokens), "label" if len(tokens) <= 2 and not body else "prose")
    parsed = parse_expression(body)
    node = parsed.node
    if unit.rstrip("s") in ("percent", "degree", "deg"):
        node, unit = Node("pct" if unit.startswith("p") else "deg", (node,)), ""
    tight = parse_expression(body, tight_slash=True).node if parsed.open_slash else None
    return Scalar(node, unit, tight)


def _cut_unit(tokens: Tokens) -> tuple[Tokens, str]:
    """Trailing words, with a power behind them, as the unit: ``864 \\mbox{ inches}^2``."""
    end, power = len(tokens), ""
    values = [t.value for t in tokens]
    if len(tokens) > 2 and tokens[-3].kind == "text" and values[-2] == "^" and values[-1].isdigit():
        end, power = end - 2, f" ^{values[-1]}"
    elif len(tokens) > 4 and tokens[-5].kind == "text" and values[-4:-2] == ["^", "{"] and values[-2].isdigit():
        end, power = end - 4, f" ^{values[-2]}"
    start = end
    while start > 0 and tokens[start - 1].kind == "text":
        start -= 1
    if start == end or (start == 0 and not power):
        return tokens, ""
    unit = " ".join(t.value for t in tokens[start:end]).strip().lower()
    return tokens[:start], unit + power


def _numeral(tokens: Tokens) -> Numeral | None:
    """52_8, 52_{8}."""
    values = [t.value for t in tokens if not (t.kind == "op" and t.value in "{}")]
    if len(values) != 3 or values[1] != "_" or not (values[0].isdigit() and values[2].isdigit()):
        return None
    base = int(values[2]) if len(values[2]) < 3 else 0
    if not 2 <= base <= 36 or any(int(d) >= base for d in values[0]):
        return None
    return Numeral(values[0].lstrip("0") or "0", base)
