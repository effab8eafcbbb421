"""How answers are scored: one file per scorer, nemo_cot/grading/scorers/NAME.py, found by the name that
``Problem.scorer`` has (None: math).

Each defines a frozen dataclass ``Scorer``, derived from :class:`Scoring`. Its fields are what a problem gives it beside
the expected answer, ``Problem.scorer_data``, in JSON. See docs/extending.md.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from nemo_cot.errors import UserError
from nemo_cot.grading.extraction import Extraction, extract
from nemo_cot.grading.plain_text import find_text
from nemo_cot.grading.verdict import UNDECIDED, WRONG, Verdict
from nemo_cot.named import load_named, names_in

MATH = "math"


class Scoring:
    """What every scorer has. A verdict is right only when equal by a stated rule or proven, wrong only when shown."""

    version: ClassVar[str] = "1"
    """Raise it with every change that can move a verdict; it stands in grader_version."""
    in_workers: ClassVar[bool] = False
    """Whether a verdict may take long: it is then found in a process that can be killed."""
    packages: ClassVar[dict[str, str]] = {}
    """Modules beyond the core that verdicts need, and what pip installs them with."""

    @classmethod
    def full_version(cls) -> str:
        """Its version, and those of the packages that decide with it."""
        return cls.version

    @classmethod
    def warm_up(cls) -> None:
        """Import what verdicts need, once, in the process that workers are forked from."""

    @property
    def chance(self) -> float | None:
        """The share of guesses that is right; None where there is nothing to choose from."""
        return None

    def check(self, gold: str) -> None:
        """Raise ValueError if no answer can be right."""

    def extract(self, text: str, *, fallback: str, thoughts: str) -> Extraction:
        """The answer in a model's text; as :func:`extraction.extract`, for words in place of formulas."""
        return extract(text, fallback=fallback, thoughts=thoughts, find=find_text)

    def verdict(self, gold: str, answer: str) -> Verdict:
        """Whether ``answer``, which is not blank, is the expected one. Whatever is raised makes it undecided."""
        raise NotImplementedError

    @staticmethod
    def ballot(answer: str) -> Hashable:
        """Answers with the same ballot vote together."""
        return answer.strip()


def scorer_names() -> list[str]:
    """The names of all scorers, sorted."""
    return names_in(sys.modules[__name__])


@functools.cache
def scorer_class(name: str | None) -> type[Scoring]:
    """The class of a scorer. Raises UserError for an unknown name."""
    name = name or MATH
    if name not in scorer_names():
        raise UserError(f"there is no scorer {name!r}", where="scorer", fix=f"choose among {', '.join(scorer_names())}")
    return importlib.import_module(f"{__name__}.{name}").Scorer


def load_scorer(name: str | None, data: Mapping[str, Any] | None, *, where: str) -> Scoring:
    """The scorer of a problem. Raises UserError, with ``where``, for an unknown name, key or value."""
    return load_named(sys.modules[__name__], "Scorer", name or MATH, data or {}, key=where, what="scorer")


def scorer_version(name: str | None) -> str:
    """What grader_version says of rows with this scorer: for mathematics the versions of the libraries too."""
    found = scorer_class(name).full_version()
    return found if (name or MATH) == MATH else f"nemo-cot {name} {found}"


def scorer_versions(names: Iterable[str]) -> str:
    """Those of several, as stages that grade have them in their fingerprint: of packages beyond the core, which a login
    node may lack, without their version.
    """
    ordered = sorted({*names}, key=lambda name: (name != MATH, name))
    return "; ".join(scorer_version(n) if n == MATH else f"nemo-cot {n} {scorer_class(n).version}" for n in ordered)


def check_installed(name: str) -> None:
    """Raise UserError if a package that the scorer needs is not there: every answer would be undecided."""
    for module, install in scorer_class(name).packages.items():
        if importlib.util.find_spec(module) is None:
            what = f"the package {module} is not installed, and the scorer {name} needs it"
            raise UserError(what, where="grading", fix=f"pip install {install}")


def chance(scorer: str | None, data: Mapping[str, Any] | None) -> float | None:
    """The share of guesses that is right on a problem; None where there is nothing to choose from, or its data is of no
    use.
    """
    try:
        return load_scorer(scorer, data, where="scorer_data").chance
    except UserError:
        return None


def question(scorer: str | None, gold: str, data: Mapping[str, Any] | None) -> str:
    """What answers are compared with, in one text: of mathematics the expected answer itself."""
    return gold if (scorer or MATH) == MATH else msgspec.json.encode([gold, data or {}], order="deterministic").decode()


def judge(scorer: str, asked: str, answer: str | None) -> Verdict:
    """The verdict of ``scorer`` on an answer to ``asked``, a :func:`question`; it may take long. Raises MemoryError and
    RecursionError."""
    if answer is None or not answer.strip():
        return Verdict(WRONG, "no-answer")
    if scorer == MATH:
        return scorer_class(MATH)().verdict(asked, answer)
    try:
        gold, found = _asked(scorer, asked)
        return found.verdict(gold, answer)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        return Verdict(UNDECIDED, f"{scorer}: {type(error).__name__}")


@functools.lru_cache(maxsize=512)
def _asked(scorer: str, asked: str) -> tuple[str, Scoring]:
    gold, data = msgspec.json.decode(asked, type=tuple[str, dict[str, Any]])
    return gold, load_scorer(scorer, data, where="scorer_data")
