"""Read answers without parts of their own: numbers and expressions with units, numerals, matrices."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise

from nemo_cot.grading.answers.expression import Node, number, parse_expression
from nemo_cot.grading.answers.kinds import Answer, Matrix, Numeral, Piecewise, Ratio, Scalar, Words
from nemo_cot.grading.answers.token_lists import Tokens, cut_at, plain
from nemo_cot.grading.answers.tokens import Token, Unreadable
from nemo_cot.grading.answers.units import Unit, read_unit
from nemo_cot.grading.answers.words import number_in_words

ListReader = Callable[[Sequence[Tokens], str, Tokens], Answer]


def read_matrix(tokens: Tokens, list_of: ListReader) -> tuple[Answer, ...]:
    """A pmatrix or bmatrix, with a factor before it; the rows of cases."""
    begin = next((i for i, t in enumerate(tokens) if t.kind == "command" and t.value == "begin"), None)
    if begin is None:
        return ()
    name = tokens[begin + 2].value if len(tokens) > begin + 3 else ""
    body = tokens[begin + 4 : -4]
    if tokens[-4].value != "end":
        raise Unreadable("syntax: behind an environment")
    if name == "cases":
        return (_read_cases([cut_at(r, "&") for r in cut_at(body, "\\\\")], list_of),)
    if name not in ("pmatrix", "bmatrix", "matrix", "smallmatrix"):
        raise Unreadable(f"unsupported: environment {name}")
    rows = [[parse_expression(c).node for c in cut_at(r, "&")] for r in cut_at(body, "\\\\")]
    if not rows or len({len(r) for r in rows}) != 1:
        raise Unreadable("syntax: rows of different length")
    if begin:
        factor = parse_expression((*tokens[:begin], Token("number", "1"))).node  # for a lone minus sign
        rows = [[Node("mul", (factor, c)) for c in r] for r in rows]
    return (Matrix(tuple(tuple(r) for r in rows)),)


def _read_cases(rows: list[list[Tokens]], list_of: ListReader) -> Answer:
    if all(len(r) == 1 for r in rows):  # a system: x = 1, y = 2
        return list_of([r[0] for r in rows], "list", ())
    if any(len(r) != 2 for r in rows):
        raise Unreadable("syntax: rows of cases")
    found = []
    for row in rows:
        value, condition = (c[:-1] if c[-1].value == "," else c for c in row)
        condition = tuple(t for t in condition if t.value.lower() not in _IF)
        said = plain(condition) if any(t.kind == "text" for t in condition) else ""
        under = Words(said, "label") if said else list_of([condition], "list", condition)
        found.append((list_of([value], "list", value), under))
    return Piecewise(tuple(found))


_IF = frozenset(["if", "for", "when", "where"])


def read_ratio(tokens: Tokens) -> tuple[Answer, ...]:
    """3:4, 3 to 4, 3:45 pm."""
    last = tokens[-1]
    half = last.value.lower() if last.kind == "text" and last.value.lower() in ("am", "pm") else ""
    body = tokens[:-1] if half else tokens
    parts = cut_at(tuple(Token("op", ":") if t == Token("text", "to", t.spaced) else t for t in body), ":")
    if len(parts) < 2 and not half:
        return ()
    clock = bool(half) or (len(parts[1]) == 1 and re.fullmatch(r"[0-5]\d", parts[1][0].value) is not None
                           and re.fullmatch(r"\d\d?", plain(parts[0])) is not None)  # fmt: skip
    if half and len(parts) == 1:  # 5 pm
        parts.append((Token("number", "0"),))
    return (Ratio(tuple(parse_expression(p).node for p in parts), half, clock),)


def read_scalar(tokens: Tokens) -> tuple[Answer, ...]:
    """An expression with a unit, a numeral with a base; words where there is no expression.

    ``5 m`` without a mark of text is read twice: as five times m, and as five metres.
    """
    numeral = _numeral(tokens)
    if numeral is not None:
        return (numeral,)
    body, unit = cut_unit(tokens)
    likely, guess = (body, unit), (None, None) if unit else cut_unit(tokens, guessed=True)
    found = [r for r in (likely, guess) if r[0] and not any(t.kind == "text" for t in r[0])]
    if not found:
        return (Words(plain(tokens), "label" if len(tokens) <= 2 and not body else "prose"),)
    return tuple(_scalar(*r) for r in found if r is likely or r[1])


def _scalar(body: Tokens, unit: Unit | None) -> Scalar:
    parsed = parse_expression(body)
    if unit and unit.mark:
        return Scalar(Node(unit.mark, (parsed.node,)))
    return Scalar(parsed.node, unit, parsed.others)


def read_compound(tokens: Tokens) -> Scalar | None:
    """2 hours 30 minutes: a sum in the first unit."""
    tokens = tuple(t for t in tokens if t.value != "and")
    starts = [
        i for i, t in enumerate(tokens) if t.kind == "number" and (not i or tokens[i - 1].kind == "text")
    ]
    if len(starts) < 2 or starts[0]:
        return None
    parts = [cut_unit(tokens[a:b]) for a, b in zip(starts, [*starts[1:], len(tokens)])]
    units = [u for _, u in parts if u and u.dimension and u.scale == 1]
    counted = any(n.startswith("#") for u in units for n, _ in u.dimension)
    if counted or len(units) != len(parts) or len({u.dimension for u in units}) > 1:
        return None
    if any(a.factor <= b.factor for a, b in pairwise(units)):
        return None
    terms = [Node("mul", (parse_expression(b).node, number(u.factor / units[0].factor))) for b, u in parts]
    return Scalar(reduce(lambda a, b: Node("add", (a, b)), terms), units[0])


def cut_unit(tokens: Tokens, *, guessed: bool = False) -> tuple[Tokens, Unit | None]:
    r"""Trailing words as the unit: ``864 \mbox{ inches}^2``, ``9.8\,\mathrm{m/s^2}``, ``5 (\text{cm})``.

    ``guessed`` looks at letters that are not marked as text, behind a number without letters.
    """
    if measure_of_money(tokens[0]):  # \$36 \text{ per day}
        at = next((i for i, t in enumerate(tokens) if i and t.kind == "text"), len(tokens))
        tokens = (*tokens[1:at], tokens[0], *tokens[at:])
    kinds = ("name", "text") if guessed else ("text",)
    start, words = _unit_words(tokens, kinds)
    if tokens[-1].value == ")" and "(" in [t.value for t in tokens]:
        opened = len(tokens) - 1 - [t.value for t in tokens][::-1].index("(")
        inner, found = _unit_words(tokens[opened + 1 : -1], kinds)
        if inner == 0 and found and opened:
            start, words = opened, found
    if start in (0, len(tokens)) or (guessed and any(t.kind == "name" for t in tokens[:start])):
        return tokens, None
    unit = read_unit(tuple(words), guessed=guessed)
    return (tokens, None) if guessed and unit.dimension is None else (tokens[:start], unit)


def measure_of_money(token: Token) -> bool:
    """Whether a word is a currency: it may stand before the number."""
    return token.kind == "text" and bool(
        {"dollar", "euro", "gbp", "rupee", "yen", "yuan"}
        & dict(read_unit((token.value,)).dimension or ()).keys()
    )


def _unit_words(tokens: Tokens, kinds: tuple[str, ...]) -> tuple[int, list[str]]:
    """Where the words at the end start that may be a unit, and these words with their powers and slashes."""
    words: list[str] = []
    start, at = len(tokens), len(tokens) - 1
    while at >= 0:
        token, power = tokens[at], _power_before(tokens, at)
        if token.kind in kinds:
            run = at
            while token.kind == "name" and run and not tokens[run].spaced and tokens[run - 1].kind == "name":
                run -= 1
            words[:0] = ["".join(t.value for t in tokens[run : at + 1]).rstrip(".")]
            start = at = run
        elif power:
            words[:0] = ["^", power[1]]
            at = power[0]
        elif at and words and start == at + 1 and token.value in ("/", "*"):
            words[:0] = [token.value]
        else:
            break
        at -= 1
    while words and start + len(words) and words[0] in ("^", "/", "*"):
        words = words[2:] if words[0] == "^" else words[1:]
    return start, words


def _power_before(tokens: Tokens, at: int) -> tuple[int, str] | None:
    """Where a power that ends at ``at`` starts, and its exponent: ^2, ^{-1}."""
    values = [t.value for t in tokens[max(0, at - 4) : at + 1]]
    if values[-2:-1] == ["^"] and values[-1].isdigit():
        return at - 1, values[-1]
    if values[-1] == "}" and "^" in values:
        inner = values[values.index("^") + 1 :]
        exponent = "".join(inner[1:-1])
        if inner[0] == "{" and exponent.removeprefix("-").isdigit():
            return at - len(inner), exponent
    return None


def _numeral(tokens: Tokens) -> Numeral | None:
    """52_8, (52)_{8}, 1A_{16}, 1101_{\\text{two}}; with the digits of the base in letters."""
    values = [t.value for t in tokens if not (t.kind == "op" and t.value in "{}()")]
    if len(values) < 3 or values[-2] != "_" or not (digits := "".join(values[:-2]).upper()).isalnum():
        return None
    base = int(values[-1]) if re.fullmatch(r"\d\d?", values[-1]) else number_in_words(values[-1:]) or 0
    if (
        not 2 <= base <= 36
        or not (digits[0].isdigit() or (base == 16 and len(digits) > 1))
        or any(int(d, 36) >= base for d in digits)
    ):
        return None
    return Numeral(digits.lstrip("0") or "0", int(base))
