"""reasoning_gym: by the verifier of the task, with full credit only."""

from __future__ import annotations

import copy
import functools
import json
import re
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from nemo_cot.grading.plain_text import plain, unmarked
from nemo_cot.grading.scorers import Scoring
from nemo_cot.grading.verdict import RIGHT, UNDECIDED, WRONG, Verdict
from nemo_cot.grading.verifiers import CARE, REFUSED, TUPLES, Care, is_safe_data

_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_MORE = 5_000
"""Characters that an answer may have beyond four times those of the expected one."""


@dataclass(frozen=True)
class Scorer(Scoring):
    """``task``: of reasoning-gym, with ``config``, what is not its default; ``metadata``: what it says of the problem, in
    JSON.
    """

    task: str
    config: dict[str, Any]
    metadata: dict[str, Any]

    in_workers = True
    packages: ClassVar[dict[str, str]] = {"reasoning_gym": "-e '.[local]' in the clone"}

    @classmethod
    def full_version(cls) -> str:
        """With the package's."""
        try:
            return f"{cls.version}, reasoning-gym {version('reasoning-gym')}"
        except PackageNotFoundError:
            return f"{cls.version}, reasoning-gym absent"

    @classmethod
    def warm_up(cls) -> None:
        """The package, where it is installed; without it answers are undecided."""
        try:
            imported()
        except ImportError:
            return

    def check(self, gold: str) -> None:
        """A task that is scored, with data that it makes."""
        if self.task in REFUSED or not is_safe_data(self.task, gold, self.metadata):
            raise ValueError(f"the task {self.task}: {REFUSED.get(self.task, 'its data is not what it makes')}")

    def verdict(self, gold: str, answer: str) -> Verdict:
        """Right at a score of 1, wrong below. The answer counts as it stands, or without the markup around it."""
        if self.task in REFUSED:
            return Verdict(UNDECIDED, "refused: the task is not scored here")
        if len(answer) > 4 * len(gold) + _MORE:
            return Verdict(UNDECIDED, f"too-long: {len(answer)} characters")
        care = CARE.get(self.task, Care())
        if not is_safe_data(self.task, gold, self.metadata):
            return Verdict(UNDECIDED, "data: the problem's own data is not what the task makes")
        found = [self._one(care, gold, reading) for reading in _readings(answer, care)]
        return min(found, key=lambda verdict: (RIGHT, WRONG, UNDECIDED).index(verdict.outcome))

    def _one(self, care: Care, gold: str, answer: str) -> Verdict:
        if care.form and not care.form(answer):
            return Verdict(UNDECIDED, "form: not of the characters, or the grammar, of an answer")
        if not care.by_key and (score := self.score(gold, answer)) != 1.0:
            shown = isinstance(score, (int, float)) and 0 <= score < 1
            return Verdict(WRONG if shown else UNDECIDED, f"verifier: {score:.3g} of 1" if shown else "verifier: no score")
        try:
            if care.key and care.key(answer) != care.key(gold):
                return Verdict(WRONG, "not-equal")
            outcome = care.check(answer, gold, self.metadata) if care.check else None
        except (ValueError, TypeError, ZeroDivisionError, RecursionError) as error:
            return Verdict(UNDECIDED, f"form: {type(error).__name__}")
        return Verdict(outcome, "more-or-other-than-the-answer") if outcome else Verdict(RIGHT, "verifier")

    def score(self, gold: str, answer: str) -> Any:
        """What the verifier says, alone."""
        metadata = copy.deepcopy(self.metadata)  # some write into it
        if (key := TUPLES.get(self.task)) is not None:
            metadata[key] = tuple(map(tuple, metadata[key]))
        dataset = _dataset(self.task, json.dumps(self.config))
        return dataset.score_answer(answer, {"question": "", "answer": gold, "metadata": metadata})


def imported() -> Any:
    """The package reasoning_gym. Raises ImportError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of packages that it imports
        import reasoning_gym
    return reasoning_gym


@functools.lru_cache(maxsize=64)
def _dataset(task: str, config: str) -> Any:
    return imported().create_dataset(task, **json.loads(config), seed=0, size=1)


def _readings(answer: str, care: Care) -> list[str]:
    """The answer as it stands, without markup, and as the verifier wants it, each once."""
    read = care.read or (lambda text: text.replace(",", "") if _THOUSANDS.fullmatch(text) else text)
    raw = answer.strip()
    return list(dict.fromkeys([raw, unmarked(raw), plain(raw), read(plain(raw))]))
