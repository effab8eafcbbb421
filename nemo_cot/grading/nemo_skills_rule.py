r"""NeMo-Skills' own verdict, for comparison with published figures. Unbounded in time: workers only.

The rule is that of nemo_skills/evaluation/math_grader.py (commit 0b012df, November 2025), over
the same math-verify: multiple-choice letters, then a literal comparison of the normalised LaTeX,
then math-verify with 15 digits. Written anew from its behaviour; a contract test compares the
two where nemo_skills is installed. The one difference: its alarms (5 s a parse, 10 s a
comparison, then "wrong") are replaced by the deadline of the worker.
"""

from __future__ import annotations

import logging
import re

logging.getLogger("math_verify").setLevel(logging.ERROR)

_LETTERS = tuple("ABCDEFGHIJ")
_PERCENT = re.compile(r"^(\d+\.?\d*)(?:\\%|%)$")
_LITERAL = re.compile(r"[a-zA-Z ,]+|[0-9 ]+")
_LATEX_SPAN = re.compile(r"\$.*\$|\\\(.*\\\)|\\\[.*\\\]|\\boxed\{", re.DOTALL)


def nemo_skills_answer(text: str) -> str | None:
    r"""What NeMo-Skills extracts: the content of the last ``\boxed{``, None if that one is not closed."""
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0 and text[position] == "}":
            content = text[start : position + 1]
            return content[len("\\boxed{") : -1] if content.startswith("\\boxed{") else None
    return None


def nemo_skills_equal(gold: str, prediction: str) -> bool:
    """NeMo-Skills' symbolic_correct for one pair. Raises MemoryError under a memory limit."""
    from latex2sympy2_extended import NormalizationConfig, normalize_latex
    from math_verify import LatexExtractionConfig, parse, verify

    if _same_letter(gold, prediction):
        return True
    gold, prediction = _trimmed(gold), _trimmed(prediction)
    plain = [normalize_latex(text, NormalizationConfig) for text in (gold, prediction)]
    equal = plain[0].replace(" ", "") == plain[1].replace(" ", "")
    if equal or all(_LITERAL.fullmatch(text) for text in plain):
        return equal
    parsed = [
        parse(
            text if _LATEX_SPAN.search(text) else f"${text}$", [LatexExtractionConfig()], parsing_timeout=None
        )
        for text in (gold, prediction)
    ]
    return verify(*parsed, numeric_precision=15, timeout_seconds=None)


def _same_letter(gold: str, prediction: str) -> bool:
    from math_verify import StringExtractionConfig, parse, verify

    if gold.strip() not in _LETTERS:
        return False
    config = [StringExtractionConfig(strings=_LETTERS)]
    found = [parse(text, config, parsing_timeout=None) for text in (gold, prediction)]
    return verify(*found, timeout_seconds=None)


def _trimmed(text: str) -> str:
    """Without a percent sign behind a plain number, and without a full stop at the end."""
    percent = _PERCENT.fullmatch(text)
    return (percent.group(1) if percent else text).rstrip(".\\")
