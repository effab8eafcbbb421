"""math-verify on what the typed rules do not read. Unbounded in time: call it in a worker only."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from nemo_cot.grading.answers.latex_text import clean
from nemo_cot.grading.verdict import RIGHT, UNDECIDED, WRONG, Verdict

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own timeouts are off


def grade_by_sympy(gold: str, prediction: str) -> Verdict:
    """Right if math-verify finds the parsed expressions equal, wrong if their numeric values differ.

    Everything else is undecided: math-verify says "not equal" also when it could not tell.
    Raises MemoryError as SymPy does under a memory limit.
    """
    from math_verify import verify

    try:
        left, right = _parse(gold), _parse(prediction)
    except MemoryError:
        raise
    except Exception as error:  # the parser raises what it likes on input it does not know
        return Verdict(UNDECIDED, f"unparsable: {type(error).__name__}")
    try:
        if verify(left, right, timeout_seconds=None):
            return Verdict(RIGHT, "math-verify")
        return (
            Verdict(WRONG, "sympy-numeric")
            if _differ(left, right)
            else Verdict(UNDECIDED, "sympy: not proved")
        )
    except MemoryError:
        raise
    except Exception as error:
        return Verdict(UNDECIDED, f"sympy: {type(error).__name__}")


@lru_cache(maxsize=512)
def _parse(text: str) -> Any:
    from latex2sympy2_extended import NormalizationConfig
    from latex2sympy2_extended.latex2sympy2 import latex2sympy
    from math_verify.grader import should_treat_as_complex

    latex = clean(text).replace("°", r"^{\circ}").replace("%", r"\%")
    config = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none"
    )
    return latex2sympy(latex, is_real=not should_treat_as_complex(latex), normalization_config=config)


def _differ(left: Any, right: Any) -> bool:
    """Whether both are numbers whose values differ beyond doubt at 30 digits."""
    from sympy import Expr

    if not (isinstance(left, Expr) and isinstance(right, Expr)):
        return False
    if left.free_symbols or right.free_symbols:
        return False
    a, b = left.doit().evalf(30), right.doit().evalf(30)
    if not (a.is_number and b.is_number and a.is_finite and b.is_finite):
        return False
    return bool(abs(a - b) > 10**-12 * (1 + abs(a) + abs(b)))
