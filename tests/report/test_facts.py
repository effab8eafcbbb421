"""Figures that only reports show, against values computed by hand."""

import math
from dataclasses import replace
from statistics import NormalDist

import pytest

from nemo_cot.evaluation.scores import Change, Figure, score
from nemo_cot.experiment.compose import load_config
from nemo_cot.records import TraceLoss
from nemo_cot.report import facts
from nemo_cot.report.run_results import run_results
from nemo_cot.report.texts import _kept, _Sizes, steps_of
from nemo_cot.report.words import judged
from nemo_cot.traces.marks import Marks
from nemo_cot.traces.steps import segment
from nemo_cot.traces.thought import marked_thought
from tests.report.made import evaluation, findings, graded, trace
from tests.support import python


def rows(**right: list[bool]) -> list:
    """Samples by problem; the n-th has 10 + n tokens."""
    return [
        trace(problem, sample, "right" if good else "wrong")
        for problem, goods in right.items()
        for sample, good in enumerate(goods)
    ]


def test_the_smallest_difference_is_that_of_a_paired_test():
    first, second = {"a": 0.0, "b": 0.5, "c": 0.5}, {"a": 1.0, "b": 0.5, "c": 0.0}
    spread = math.sqrt(((1 - 1 / 6) ** 2 + (0 - 1 / 6) ** 2 + (-0.5 - 1 / 6) ** 2) / 2)  # differences 1, 0, -1/2
    expected = (NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)) * spread / math.sqrt(3)
    assert facts.smallest_difference(first, second, 0.95) == pytest.approx(expected)
    assert facts.smallest_difference({"a": 0.0}, {"a": 1.0}, 0.95) is None
    assert facts.smallest_difference(first, second, 0.99) > expected


def test_problems_are_ordered_by_gain_with_a_right_sample_of_each():
    samples = {"base": rows(a=[True, True], b=[False, False]), "trained": rows(a=[False, False], b=[False, True])}
    found = facts.problem_rows(samples, ["base", "trained"])
    assert [row.problem_id for row in found] == ["b", "a"]
    assert found[0].right == {"base": 0.0, "trained": 0.5} and found[0].sample == {"base": 0, "trained": 1}
    assert [facts.gain(row, ["base", "trained"]) for row in found] == [0.5, -1.0]


def test_within_a_budget_a_longer_answer_is_wrong():
    samples = {"base": rows(a=[False] * 3, b=[False] * 3), "trained": rows(a=[True, True, False], b=[False, True, True])}
    found = facts.token_budgets(samples, score(samples, replace(evaluation(3), token_budgets=[])))["trained"]
    by_budget = {point.k: point.value for point in found}
    assert by_budget[12] == pytest.approx(4 / 6), "all: what pass@1 is"
    assert by_budget[11] == pytest.approx((2 / 3 + 1 / 3) / 2) and by_budget[10] == pytest.approx((1 / 3 + 0) / 2)
    assert by_budget[9] == 0 and all(point.low <= point.value <= point.high for point in found)


def test_the_budgets_of_the_config_and_what_answers_held_until_there_come_from_the_scores():
    samples = {"base": rows(a=[False] * 2, b=[False] * 2), "trained": rows(a=[True, True], b=[True, True])}
    held = {"trained": {10: samples["trained"]}}  # their text until there is right already
    scores = score(samples, replace(evaluation(2), token_budgets=[10]), within_budgets=held)
    (point,) = facts.token_budgets(samples, scores)["trained"]
    assert (point.k, point.value) == (10, 1.0)


def test_a_trace_is_learned_at_half_of_its_first_loss():
    losses = {"slow": (4.0, 3.0, 2.1), "fast": (4.0, 2.0, 1.0)}
    rows = [TraceLoss(step, name, 0, loss, 0.5, 7, 1) for name, of in losses.items() for step, loss in enumerate(of, 1)]
    fast, slow = facts.trace_curves(rows)
    assert (fast.trace, fast.learned, fast.losses, fast.tokens) == ("fast, 0", 2, [4.0, 2.0, 1.0], 7)
    assert (slow.trace, slow.learned) == ("slow, 0", None)


@pytest.mark.parametrize("text", ["", "No mark.", "<think>\n\U0001d538. Wait, no.\n\nd\n</think>\n\nSo \U0001d538.", "a</think>But b", "等等。不对。"])
def test_the_viewer_gets_the_steps_of_each_part_in_letters_of_javascript(text):
    marks = Marks(load_config(["marks=mixed"]).marks)
    parts, units = steps_of(text, marks), text.encode("utf-16-le")
    begin, end = marked_thought(text, marks) or (0, 0)
    cuts = (text[:begin], text[begin:end], text[end:])
    at = 0
    for found, part in zip(parts, cuts, strict=True):
        for step, kind, size in zip(segment(part, marks), found[::2], found[1::2], strict=True):
            assert units[2 * at : 2 * (at + size)].decode("utf-16-le") == step.text and marks.step_kinds[kind] == step.kind
            at += size
    assert 2 * at == len(units)


def test_texts_are_kept_rank_by_rank_as_long_as_they_fit():
    sizes = [_Sizes([0, 1, 2, 3], [10, 10, 10, 10]), _Sizes([0, 0, 2, 3], [10, 10, 10, 10])]
    assert _kept(sizes, 1.0, 1000) == (3, "")
    for room, kept in ((29, -1), (30, 0), (39, 0), (40, 1), (59, 1), (60, 2)):
        assert _kept(sizes, 1.0, room)[0] == kept, room
    kept, rule = _kept(sizes, 1.0, 40)
    assert "4 of 8 samples (the first 1 samples of each problem and set" in rule
    assert _kept(sizes, 0.5, 20)[0] == 1, "by what the texts take in the page"


def test_a_histogram_ends_before_the_longest_and_holds_it_in_the_last_bin():
    found = facts.histogram("tokens", "tokens", {"a": [*range(1000), 10**6]}, bins=10)
    assert found.edges[-1] < 1000 and sum(found.shares["a"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.01, 0.3, "helped"), (0.0, 0.3, "unclear"), (-0.1, 0.3, "unclear"), (-0.3, -0.01, "hurt")]
)
def test_helped_is_said_only_where_the_interval_leaves_out_zero(low, high, verdict):
    before, after = Figure(0.2, 0.1, 0.3), Figure(0.2 + (low + high) / 2, 0.1, 0.5)
    found, sentence = judged(Change((low + high) / 2, low, high, 0.05), "Training", before, after)
    assert found == verdict and "20.0 %" in sentence


def test_kept_models_of_the_training_are_points_of_the_curve_over_steps():
    made = graded()
    samples = {"trained@20": made["trained"], "trained@5": made["base"], **made}
    scores = score(samples, replace(evaluation(), subjects=list(samples)), steps={"trained@20": 20, "trained@5": 5})
    shown = run_results(findings(scores=scores, samples=samples), "t").scores.over_steps
    assert [(point.step, point.value) for point in shown] == [(5, 0.25), (20, 0.75)]


def test_the_smallest_difference_has_the_same_bits_in_every_process():
    """Strings hash differently in each, and a sum of floats hangs on its order."""
    code = (
        "from nemo_cot.report.facts import smallest_difference as f; import math\n"
        "print(f(*({f'p{i}': math.sin(i * k) for i in range(99)} for k in (1, 2)), 0.95).hex())"
    )
    assert len({python("-c", code, PYTHONHASHSEED=str(seed)).stdout for seed in range(1, 5)}) == 1
