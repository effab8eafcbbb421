# ruff: noqa: RUF001  (the signs are meant as they stand)
"""reasoning-gym's verifiers, as they are trusted: which tasks are refused, and what is asked of an answer besides.

Gone through in release 0.1.25. An answer is a model's, and untrusted: some verifiers give it to eval or to SymPy's
parse_expr, which is eval too, and some give full credit to more than the answer. A form that is checked before, or an
equality beside full credit, closes each of these.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from nemo_cot.grading.verdict import UNDECIDED, WRONG

REFUSED = {
    "boxnet": "it gives no answer of its own to compare with",
    "codeio": "its problems are programs, which making and checking them executes, and nothing is executed here",
    "composite": "it is a mixture: name its tasks in problems.tasks",
    "propositional_logic": "its verifier gives full credit to a premise that is repeated",
    "rush_hour": "it gives no answer of its own to compare with",
}
"""Tasks that are not offered, with the reason."""

HASHED = {"isomorphic_strings", "knight_swap", "polynomial_multiplication", "ransom_note", "word_ladder"}
"""Tasks that walk sets of texts, whose order, and the problems with it, is another one in every process, unless
PYTHONHASHSEED is set."""

OWN_ANSWERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "graph_color": lambda metadata: json.dumps(metadata["possible_answer"]),
    "rubiks_cube": lambda metadata: str(metadata["example_correct_answer"]),
}
"""Of tasks without the one answer: an answer."""

TUPLES = {"arc_agi": "output", "rearc": "output"}
"""What of the metadata the verifier compares with tuples of tuples, which JSON has not."""

_EVALUATED = re.compile(r"[0-9a-fxA-FX+\-*/%&|^~<>() ]+")
_SINGLE = re.compile(r"[A-Za-z]")
_FUNCTIONS = {
    "Abs", "acos", "asin", "atan", "cos", "cosh", "cot", "csc", "exp", "ln", "log", "sec", "sin", "sinh", "sqrt", "tan", "tanh",
}  # fmt: skip
_ARITHMETIC = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.UAdd, ast.USub, ast.Constant)


@dataclass(frozen=True)
class Care:
    """What is asked beside the verifier. ``form``: of the whole answer, before anything else sees it (else undecided),
    and of the expected one too. ``key``: equal for both (else wrong). ``check``: of (answer, expected answer, metadata)
    the outcome in place of right, or None. ``evaluates``: the key of the metadata whose text the verifier evaluates.
    ``by_key``: the verifier is not asked, as it would evaluate the answer, for partial credit at most. ``read``: what a
    model may write for the form, into the form.
    """

    form: Callable[[str], object] | None = None
    key: Callable[[str], Any] | None = None
    check: Callable[[str, str, dict[str, Any]], str | None] | None = None
    evaluates: str | None = None
    by_key: bool = False
    read: Callable[[str], str] | None = None


def is_expression(text: str) -> bool:
    """Whether it is arithmetic over numbers, letters, pi and elementary functions, and so safe for eval."""
    return _is_tree(text, (*_ARITHMETIC, ast.Pow, ast.Name, ast.Load, ast.Call))


def is_arithmetic(text: str) -> bool:
    """Whether it is whole numbers with + - * / and parentheses, and so safe for eval."""
    return _is_tree(text, _ARITHMETIC)


def _is_tree(text: str, allowed: tuple[type, ...]) -> bool:
    if not re.fullmatch(r"[0-9A-Za-z+\-*/().\s]*", text):
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, allowed):
            return False
        if isinstance(node, ast.Constant) and type(node.value) not in ((int, float) if ast.Pow in allowed else (int,)):
            return False
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and len(node.args) == 1 and not node.keywords
        ):
            return False
        if isinstance(node, ast.Name) and not (_SINGLE.fullmatch(node.id) or node.id == "pi" or node.id in _FUNCTIONS):
            return False
    return True


def value_of(text: str) -> Fraction:
    """The value of an :func:`is_arithmetic`. Raises ZeroDivisionError."""

    def of(node: Any) -> Fraction:
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        if isinstance(node, ast.UnaryOp):
            return -of(node.operand) if isinstance(node.op, ast.USub) else of(node.operand)
        left, right = of(node.left), of(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        return left * right if isinstance(node.op, ast.Mult) else left / right

    return of(ast.parse(text.strip(), mode="eval").body)


def _as_python(text: str) -> str:
    """Powers, products and names as Python has them; no value behind an equals sign."""
    text = re.sub(r"\\([A-Za-z]+)", r"\1", re.sub(r"=\s*-?[\d.]+\s*$", "", text)).replace("^", "**").replace("×", "*").replace("·", "*").replace("÷", "/")
    return re.sub(r"(?<=[\d)])\s*(?=[A-Za-z(])|(?<=\))\s*(?=\d)", "*", text.replace("{", "(").replace("}", ")")).strip()


def _is(pattern: str, flags: int = 0) -> Callable[[str], object]:
    return re.compile(pattern, flags).fullmatch


def _close(answer: str, gold: str, _: dict[str, Any]) -> str | None:
    return WRONG if abs(Fraction(answer.replace(",", "")) - Fraction(gold)) > Fraction(1, 10_000) else None


def _uses(target: str | int) -> Callable[[str, str, dict[str, Any]], str | None]:
    """That the numbers are those of the problem, each once, and the value is exact."""

    def check(answer: str, _: str, metadata: dict[str, Any]) -> str | None:
        wanted = metadata[target] if isinstance(target, str) else target
        numbers = sorted(map(int, re.findall(r"\d+", answer)))
        return None if numbers == sorted(metadata["numbers"]) and value_of(answer) == wanted else WRONG

    return check


def _one_number(answer: str, gold: str, _: dict[str, Any]) -> str | None:
    numbers = {float(n.replace(",", "")) for n in re.findall(r"-?\d[\d,]*(?:\.\d+)?", answer)}
    return None if numbers == {float(gold)} else UNDECIDED


def _only_its_words(answer: str, gold: str, _: dict[str, Any]) -> str | None:
    words, known = (set(re.findall(r"\w+", text.lower())) for text in (answer, gold))
    return None if words <= known | {"a", "an", "and", "is"} else UNDECIDED


def _in_solutions(answer: str, _: str, metadata: dict[str, Any]) -> str | None:
    return None if answer in metadata["valid_answers"] else WRONG


def _is_list_of_numbers(text: str) -> bool:
    return all(re.fullmatch(r"\s*-?\d+(?:\.\d*)?(?:[eE][-+]?\d{1,2})?\s*", part) for part in text.split(","))


def _is_moves(text: str) -> bool:
    return all(re.fullmatch(r"[A-Za-z]{1,2}['2]?\d?", move) for move in text.split())


def _floats(text: str) -> list[float]:
    return [float(number) for number in json.loads(text.replace("'", '"'))]


def _is_json_of_numbers(text: str) -> bool:
    try:
        return bool(_floats(text))
    except (ValueError, TypeError, RecursionError):
        return False


def _exactly(text: str) -> str:
    return text.strip()


_INTEGRAL = Care(is_expression, evaluates="integrand", read=_as_python)

CARE: dict[str, Care] = {
    # eval or parse_expr of the answer
    "binary_matrix": Care(key=_exactly, by_key=True),
    "spiral_matrix": Care(key=_exactly, by_key=True),
    "string_insertion": Care(key=_exactly, by_key=True),
    "n_queens": Care(check=_in_solutions, by_key=True),
    "countdown": Care(is_arithmetic, check=_uses("target"), read=_as_python),
    "puzzle24": Care(is_arithmetic, check=_uses(24), read=_as_python),  # which numbers, its verifier does not look
    "intermediate_integration": _INTEGRAL,
    "simple_integration": _INTEGRAL,
    "polynomial_multiplication": Care(is_expression, read=_as_python),
    # eval of what comes with the problem, which may be out of a file of somebody's
    "bitwise_arithmetic": Care(evaluates="problem"),
    # full credit for more than the answer
    "advanced_geometry": Care(_is(r"\(?\s*-?[\d.]+\s*,\s*-?[\d.]+\s*\)?|-?[\d.]+\s*°?")),  # what follows
    "coin_flip": Care(_is(r"-?[\d,]*\.?\d+(?:e-?\d{1,2})?(?:/\d+)?", re.IGNORECASE), check=_close),  # 0 is a beginning of 0.5
    "complex_arithmetic": Care(_is(r"[-+\d.\sij()]+", re.IGNORECASE)),  # nan
    "figlet_font": Care(key=lambda text: text.replace(" ", "").strip().lower()),  # ten letters are enough
    "fraction_simplification": Care(_is(r"\$?\s*(?:\\d?frac\s*\{\s*\d+\s*\}\s*\{\s*\d+\s*\}|-?\d+\s*/\s*-?\d+)\s*\$?")),
    "game_of_life": Care(key=json.loads),  # further cells
    "game_of_life_halting": Care(key=_exactly),  # bool of any text
    "gsm_symbolic": Care(check=_one_number),  # the first number, without its sign
    "kakurasu": Care(_is(r"[01\s,;|\[\]]+")),
    "knights_knaves": Care(check=_only_its_words),  # "it is not so that ..."
    "letter_jumble": Care(key=lambda text: text.lower().split()),  # further words
    "number_sorting": Care(_is_json_of_numbers, key=_floats),  # eval of the expected one; other numbers, closer than 1
    "polynomial_equations": Care(_is_list_of_numbers),  # what is no number is passed over
    "prime_factorization": Care(_is(r"[\d\s×]+"), read=lambda text: text.replace("*", "×").replace("·", "×")),
    "quantum_lock": Care(_is(r"[ABC\s,→>-]+", re.IGNORECASE)),  # any word with these letters
    "rubiks_cube": Care(_is_moves),  # R999999999
    "sokoban": Care(_is(r"[LRUD\s,]+")),  # any word with these letters
    "survo": Care(_is(r"[\d\s]+")),
    "time_intervals": Care(_is(r"-?(?:\d+\s*days?,?\s*)?(?:\d+:\d+(?::\d+(?:\.\d+)?)?)?", re.IGNORECASE)),  # what follows
    "word_sorting": Care(key=lambda text: [word.strip() for word in text.split(",")]),  # further words
}


def is_safe_data(task: str, gold: str, metadata: dict[str, Any]) -> bool:
    """Whether what the verifier evaluates of the problem itself is arithmetic."""
    care = CARE.get(task, Care())
    if care.evaluates is not None:
        text = str(metadata.get(care.evaluates))
        if not (is_expression(text) if care.form is is_expression else _EVALUATED.fullmatch(text)):
            return False
    return care.form is None or bool(care.form(gold))
