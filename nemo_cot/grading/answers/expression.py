"""Expressions as trees, and the parser that reads them from tokens.

The grammar is that of final answers: numbers, radicals, powers, factorials, elementary functions,
variables. What it does not know (integrals, sums, limits) raises Unreadable and is left to
math-verify's full grammar in a worker.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from nemo_cot.grading.answers.tokens import Token, Unreadable

MAX_DEPTH = 60
"""Nesting that is followed; Python's own stack allows about 1000 frames, ten a level here."""

_STARTS = frozenset(["(", "[", "{", "⌊", "⌈"])
_CLOSERS = {"(": ")", "[": "]", "{": "}", "⌊": "⌋", "⌈": "⌉", "|": "|"}
_GROUP_OPS = {"|": "abs", "⌊": "floor", "⌈": "ceil"}


@dataclass(frozen=True)
class Node:
    """``op`` over ``args``: children, or the payload of a leaf (num, dec, sym, const)."""

    op: str
    args: tuple[Any, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """The arguments that are nodes."""
        return tuple(a for a in self.args if isinstance(a, Node))


@dataclass(frozen=True)
class Parsed:
    """The likely tree, and the tree of each other reading by what it hangs on.

    "slash": ``1/2x`` as 1/(2x) instead of (1/2)x. "argument": ``\\sin x(x+1)`` as a sine of all of it.
    """

    node: Node
    others: tuple[tuple[str, Node], ...] = ()


def parse_expression(tokens: Sequence[Token]) -> Parsed:
    """The trees of ``tokens``; all of them must be used. Raises Unreadable."""
    node, still_open = _parse(tokens, "")
    return Parsed(node, tuple((cause, _parse(tokens, cause)[0]) for cause in sorted(still_open)))


def _parse(tokens: Sequence[Token], other: str) -> tuple[Node, set[str]]:
    parser = _Parser(tokens, other)
    node = parser.expression()
    if parser.position < len(parser.tokens):
        raise Unreadable(f"syntax: unexpected {parser.tokens[parser.position].value!r}")
    return node, parser.still_open


def walk(node: Node) -> list[Node]:
    """All nodes of the tree, the root first."""
    found, stack = [], [node]
    while stack:
        current = stack.pop()
        found.append(current)
        stack.extend(current.children)
    return found


def symbols(node: Node) -> frozenset[str]:
    """Names of the variables in the tree."""
    return frozenset(n.args[0] for n in walk(node) if n.op == "sym")


def substitute(node: Node, name: str, value: Node) -> Node:
    """The tree with ``value`` for the variable ``name``."""
    if node == Node("sym", (name,)):
        return value
    return Node(node.op, tuple(substitute(a, name, value) if isinstance(a, Node) else a for a in node.args))


def number(value: int | Fraction) -> Node:
    """A leaf for an exact rational number."""
    return Node("num", (Fraction(value),))


_END = Token("end", "")
_FRACTION = re.compile(
    r"frac (?:(\d)(\d)|(?:\{ (\d+) \}|(\d)) (?:\{ (\d+) \}|(\d)))(?= |$)|(\d+) / (\d+)(?= |$)",
)
"""The next tokens, with blanks between, when they are a fraction of two whole numbers."""


class _Parser:
    """Recursive descent over one list of tokens."""

    def __init__(self, tokens: Sequence[Token], other: str) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.other = other
        self.still_open: set[str] = set()
        self.bars = 0

    # Token access

    def peek(self, ahead: int = 0) -> Token:
        place = self.position + ahead
        return self.tokens[place] if place < len(self.tokens) else _END

    def take(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    def at(self, *values: str) -> bool:
        token = self.peek()
        return token.kind == "op" and token.value in values

    def expect(self, value: str) -> None:
        if not self.at(value):
            raise Unreadable(f"syntax: {value!r} missing")
        self.position += 1

    # Sums and products

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("too-deep: nested expressions")
        node = self.signed_term()
        while self.at("+", "-"):
            sign = self.take().value
            if self.at("-") and sign == "+":  # 2+-3 is what programs print
                self.take()
                sign = "-"
            if self.at("+", "-"):
                raise Unreadable("malformed: doubled sign", malformed=True)
            term = self.term()
            node = Node("add", (node, term if sign == "+" else Node("neg", (term,))))
        self.depth -= 1
        return node

    def signed_term(self) -> Node:
        if self.at("+", "-") and self.peek(1).kind == "op" and self.peek(1).value in ("+", "-"):
            raise Unreadable("malformed: doubled sign", malformed=True)
        return self.signed(self.term)

    def signed(self, part: Callable[[], Node]) -> Node:
        """``part`` behind at most one sign."""
        sign = self.take().value if self.at("+", "-") else "+"
        node = part()
        return Node("neg", (node,)) if sign == "-" else node

    def term(self) -> Node:
        node = self.power()
        while True:
            if self.at("*", "/"):
                operator = self.take().value
                right = self.signed(self.power)
                if operator == "/" and self.starts_atom() and self.either("slash"):
                    right = self.implicit_product(right)
                node = Node("mul" if operator == "*" else "div", (node, right))
            elif self.starts_atom():
                node = Node("mul", (node, self.factor_after(node)))
            else:
                return node

    def either(self, cause: str) -> bool:
        """Note that a reading hangs on ``cause``; whether this parser takes the less likely one."""
        self.still_open.add(cause)
        return self.other == cause

    def implicit_product(self, node: Node) -> Node:
        while self.starts_atom():
            node = Node("mul", (node, self.factor_after(node)))
        return node

    def factor_after(self, before: Node) -> Node:
        """The next factor of a product without a sign; two bare numbers side by side are none."""
        if self.peek().kind == "number" and before.op in ("num", "dec"):
            raise Unreadable("syntax: two numbers side by side")
        return self.power()

    def starts_atom(self) -> bool:
        token = self.peek()
        if token.kind in ("number", "name", "constant", "function"):
            return True
        if token.kind == "command":
            return token.value in ("frac", "sqrt", "binom", "abs")
        return token.kind == "op" and (token.value in _STARTS or (token.value == "|" and not self.bars))

    # Powers and marks behind a factor

    def power(self) -> Node:
        node = self.postfix(self.atom())
        if self.at("^"):
            self.take()
            node = self.postfix(Node("pow", (node, self.script())))
            if self.at("^"):
                raise Unreadable("syntax: double superscript")
        return node

    def postfix(self, node: Node) -> Node:
        while self.at("!", "%", "°"):
            mark = self.take().value
            if mark == "!" and self.at("!"):
                raise Unreadable("syntax: double factorial")
            node = Node({"!": "fact", "%": "pct", "°": "deg"}[mark], (node,))
        return node

    def script(self) -> Node:
        """What ``^`` raises to: a group, or a signed number or letter."""
        return self.group() if self.at("{") else self.signed(self.atom)

    # Atoms

    def atom(self) -> Node:
        token = self.peek()
        if token.kind == "number":
            return self.number()
        if token.kind == "name":
            return self.variable()
        if token.kind == "constant":
            self.take()
            return Node("const", (token.value,))
        if token.kind == "function":
            return self.function()
        if token.kind == "command":
            return self.command()
        if token.kind == "op" and token.value in _CLOSERS:
            return self.group()
        raise Unreadable(f"syntax: unexpected {token.value or 'end'!r}")

    def group(self) -> Node:
        opener = self.take().value
        self.bars += opener == "|"
        outer_bars, self.bars = self.bars, self.bars if opener == "|" else 0
        node = self.expression()
        self.bars = outer_bars - (opener == "|")
        self.expect(_CLOSERS[opener])
        return Node(_GROUP_OPS[opener], (node,)) if opener in _GROUP_OPS else node

    def number(self) -> Node:
        text = self.take().value
        if self.peek().kind == "command" and self.peek().value == "overline" and "." in text:
            return self.repeating_decimal(text)
        if self.at("_", "'"):
            raise Unreadable("syntax: a number with an index or a prime")
        if "e" in text.lower():
            return number(Fraction(text))
        if "." in text:
            return Node("dec", (Fraction(text), len(text) - text.index(".") - 1))
        signed = (
            self.peek(1).value == "-"
            and self.peek(2).kind == "number"
            and not (self.peek(1).spaced or self.peek(2).spaced)
        )
        if self.peek() == Token("constant", "e") and (self.peek(1).kind == "number" or signed):
            raise Unreadable("open: 1e5 is a power of ten or a multiple of e")
        return self.mixed_fraction(int(text))

    def repeating_decimal(self, start: str) -> Node:
        """0.1\\overline{6} as 1/6."""
        self.take()
        digits = "".join(t.value for t in self.braced_tokens())
        if not digits.isdigit() or len(digits) > 200:
            raise Unreadable("syntax: overline")
        places = len(start) - start.index(".") - 1
        return number(
            Fraction(start.rstrip(".")) + Fraction(int(digits), (10 ** len(digits) - 1) * 10**places)
        )

    def mixed_fraction(self, whole: int) -> Node:
        """3\\frac{1}{2} and 3 1/2 as seven halves; other fractions behind a number are factors."""
        found = _FRACTION.match(" ".join(t.value for t in self.tokens[self.position : self.position + 7]))
        latex = self.peek().kind == "command"
        if found and (latex or (self.peek().spaced and self.peek(1).value == "/")):
            top, bottom = (int(g) for g in found.groups() if g is not None)
            if 0 < top < bottom:
                self.position += len(found.group().split())
                return number(whole + Fraction(top, bottom))
        return number(whole)

    def variable(self) -> Node:
        name = self.take().value
        while self.at("_"):
            self.take()
            parts = self.braced_tokens() if self.at("{") else [self.take()]
            name += "_" + "".join(t.value for t in parts)
        while self.at("'"):
            name += self.take().value
        if name.rstrip("'") in ("f", "g") and self.at("("):  # a function: f(2x) is not 2f(x)
            return Node("call", (name, self.group()))
        if name in ("zeta", "Gamma") and self.at("("):
            raise Unreadable("syntax: a function that is not known here")
        return Node("sym", (name,))

    def braced_tokens(self) -> list[Token]:
        """The tokens of a group without groups in it."""
        self.expect("{")
        found = []
        while not self.at("}"):
            token = self.take()
            if token.kind == "end" or token.value == "{":
                raise Unreadable("syntax: group")
            found.append(token)
        self.take()
        return found

    def argument(self) -> Node:
        """A LaTeX argument: a group, or one token; of a number its first digit."""
        if self.at("{"):
            return self.group()
        token = self.peek()
        if token.kind == "number" and len(token.value) > 1 and "." not in token.value:
            rest = Token("number", token.value[1:], False)
            self.tokens = [*self.tokens[: self.position + 1], rest, *self.tokens[self.position + 1 :]]
            self.take()
            return number(int(token.value[0]))
        return self.atom()

    def command(self) -> Node:
        name = self.take().value
        if name == "frac":
            top = self.argument()
            if top == Node("sym", ("d",)):
                raise Unreadable("unsupported: a derivative")
            return Node("div", (top, self.argument()))
        if name == "binom":
            return Node("binom", (self.argument(), self.argument()))
        if name == "sqrt":
            return self.root()
        if name == "abs" and self.at("("):
            return Node("abs", (self.group(),))
        raise Unreadable(f"unsupported: \\{name}")

    def root(self) -> Node:
        degree = number(2)
        if self.at("["):
            degree = self.group()
        return Node("root", (self.group() if self.at("{", "(") else self.atom(), degree))

    def function(self) -> Node:
        name = self.take().value
        base = None
        if name == "log" and self.at("_"):
            self.take()
            base = self.script()
        power = None
        if self.at("^"):
            self.take()
            power = self.script()
        argument = self.function_argument()
        if base is not None:
            node = Node("div", (Node("fn", ("ln", argument)), Node("fn", ("ln", base))))
        elif power is not None and power == Node("neg", (number(1),)):
            node, power = Node("fn", ("arc" + name, argument)), None
        else:
            node = Node("fn", (name, argument))
        return node if power is None else Node("pow", (node, power))

    def function_argument(self) -> Node:
        """``\\sin(x)``, ``\\sin{x}``, or the product up to the next sign or function: ``\\sin 2x``.

        Behind a letter it ends at a factor that is no other letter: ``\\sin x\\, e^x``, ``\\sin x (1 + x)``.
        """
        if self.at("(", "{", "["):
            return self.group()
        node = self.power()
        while self.starts_atom() and self.peek().kind != "function":
            token, letters = self.peek(), symbols(node)
            if letters & {token.value} or (
                letters and (token.value == "e" or (token.value == "(" and token.spaced))
            ):
                break
            if token.value in _STARTS or token.value == "|" or (token.kind == "command" and letters):
                if self.either("argument") != bool(letters):
                    break
            elif letters and token.kind == "name" and token.spaced and self.either("argument"):
                break
            node = Node("mul", (node, self.factor_after(node)))
        if self.at("/") and self.peek(1).kind == "number":  # \sin \pi/6, and \ln x/2, which is open
            angle = any(n == Node("const", ("pi",)) or n.op == "deg" for n in walk(node))
            if angle or not self.either("argument"):
                self.take()
                node = Node("div", (node, self.power()))
        return node
