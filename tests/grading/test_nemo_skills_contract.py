"""Our account of NeMo-Skills' rule and metrics: measured verdicts, and its own code where it is installed."""

import random

import pytest

from nemo_cot.evaluation.metrics import majority_at_k, pass_at_1, pass_at_k
from nemo_cot.evaluation.outcomes import from_rows
from nemo_cot.grading.nemo_skills_rule import nemo_skills_answer, nemo_skills_equal

MEASURED = [
    ("16", "016", False),
    ("16", "16", True),
    ("98,118,122,142", "98118122142", True),
    ("6,6,6,5,5,6,6,7", "5,6,7", True),
    ("30^\\circ", "\\pi/6", False),
    ("1-2/\\pi", "0.3633802276", True),
    ("5", "--5", True),
    ("\\frac{1}{2}", "0.5", True),
    ("C", "C", True),
    ("C", "(C)", True),
    ("C", "D", False),
    ("50", "50\\%", True),
    ("5.", "5", True),
    ("\\text{Evelyn}", "Evelyn", True),
    ("x+1", "1+x", True),
    ("(1,2]", "1<x\\le 2", False),
    ("7", "8", False),
]
TEXTS = [
    r"\boxed{5}", r"\boxed{5} \boxed{6}", r"\boxed{5} \boxed{6", r"\boxed 5", r"\fbox{5}", "none",
    r"\boxed{}",
    r"\boxed{\frac{1}{2}}", r"\boxed{\{1,2\}}", r"\boxed{a}}", r"\boxed{\boxed{5}}", r"{\boxed{5}",
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer", "equal"), MEASURED)
def test_measured_verdicts(gold, answer, equal):
    assert nemo_skills_equal(gold, answer) is equal


def test_measured_extraction():
    found = [nemo_skills_answer(t) for t in TEXTS]
    assert found == ["5", "6", None, None, None, None, "", r"\frac{1}{2}", r"\{1,2\}", "a", "5", "5"]


def real(module: str):
    return pytest.importorskip(module, reason="nemo_skills is not installed (git install only)")


def test_their_own_grader_says_the_same():
    theirs = real("nemo_skills.evaluation.math_grader")
    for gold, answer, _ in MEASURED:
        assert theirs.math_equal(gold, answer, numeric_precision=15, timeout_seconds=10) is nemo_skills_equal(
            gold, answer
        )
    assert [theirs.extract_answer(t) for t in TEXTS] == [nemo_skills_answer(t) for t in TEXTS]


def test_their_own_metrics_say_the_same():
    theirs = real("nemo_skills.evaluation.metrics.math_metrics").MathMetrics()
    draw = random.Random(0)
    rows = [
        {"problem_id": str(p), "sample": s, "predicted_answer": draw.choice([None, "", "5", "6", "7"]),
         "symbolic_correct": draw.random() < 0.4}
        for p in range(30) for s in range(6)
    ]  # fmt: skip
    for p in range(30):
        theirs.update([r for r in rows if r["problem_id"] == str(p)])
    found, ours = theirs.get_metrics(), from_rows(rows, grader="nemo_skills")
    for k in range(1, 7):
        assert found[f"pass@1[avg-of-{k}]"]["symbolic_correct"] == pytest.approx(
            100 * pass_at_1(ours, k=k).value
        )
        assert found[f"pass@{k}"]["symbolic_correct"] == pytest.approx(100 * pass_at_k(ours, k).value)
        if k > 1:
            assert found[f"majority@{k}"]["symbolic_correct"] == pytest.approx(
                100 * majority_at_k(ours, k).value
            )
