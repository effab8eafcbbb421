"""Every class of answer in both directions: what must be right, and the near miss that must not be.

The cases are lines of cases/*.txt: ``gold <- answer => outcome``, or several outcomes with "/" between
them where more than one can be defended; "right" and "wrong" never stand together except for such.
"""

from pathlib import Path

import pytest

from nemo_cot.grading import grade

FILES = sorted((Path(__file__).parent / "cases").glob("*.txt"))


def cases():
    for path in FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                gold, rest = line.split(" <- ")
                answer, outcomes = rest.rsplit(" => ", 1)
                yield pytest.param(gold, answer, outcomes.split("/"), id=line)


def test_the_cases_are_there():
    outcomes = [c.values[2] for c in cases()]
    assert len(outcomes) > 600
    assert sum(o == ["right"] for o in outcomes) > 250 and sum("right" not in o for o in outcomes) > 150


@pytest.mark.parametrize(("gold", "answer", "outcomes"), cases())
def test_case(gold, answer, outcomes):
    verdict = grade(gold, answer)
    assert verdict.outcome in outcomes, verdict.reason
