"""metrics.json: an interval for every figure, subsets beside the total, curves; on the real rows too."""

import json
import random
from collections import Counter

import msgspec
import numpy as np
import pytest

from nemo_cot.errors import UserError
from nemo_cot.evaluation.intervals import bootstrap_interval, bootstrap_intervals, paired_differences
from nemo_cot.evaluation.metrics import Metric
from nemo_cot.evaluation.scores import Scores, score
from nemo_cot.records import Trace
from tests.grading.shared_data import comp_math
from tests.report.test_report import evaluation, trace


def figures(tree, path=""):
    """Every dict with a value, and every number beside one, by path."""
    if isinstance(tree, dict):
        if "value" in tree:
            yield path, tree
        else:
            for key, inner in tree.items():
                yield from figures(inner, f"{path}.{key}")
    elif isinstance(tree, list):
        for number, inner in enumerate(tree):
            yield from figures(inner, f"{path}[{number}]")
    elif isinstance(tree, float):
        yield path, tree


def rows(problems=6, samples=4, seed=0, **subsets):
    """Graded traces; subsets: name=number of problems, in turn."""
    draw = random.Random(seed)
    names = [name for name, count in subsets.items() for _ in range(count)] or [None] * problems
    made = []
    for p, name in enumerate(names):
        for s in range(samples):
            row = trace(f"p{p}", s, draw.choice(["right", "wrong", "undecided"]), boxed=draw.random() < 0.6)
            row.subset_for_metrics, row.finish_reason = name, draw.choice(["stop", "length"])
            row.num_generated_tokens = draw.randint(5, 50)
            row.predicted_answer = row.nemo_skills_answer = draw.choice([None, "", "1", "2"])
            row.symbolic_correct = draw.choice([True, False, None])
            made.append(row)
    return made


def test_no_cut_answers_are_a_figure_too():
    ended = rows()
    for row in ended:
        row.finish_reason = "stop"
    cut = score({"base": ended}, evaluation(4)).subjects["base"].finish_reasons["length"]
    assert (cut.value, cut.count, cut.total, cut.low) == (0, 0, 24, 0) and cut.high > 0.1


def test_every_figure_has_an_interval_around_it():
    scores = msgspec.to_builtins(score({"base": rows(seed=1), "trained": rows(seed=2)}, evaluation(4)))
    found = dict(figures(scores["subjects"]))
    assert len(found) == 2 * (14 + 9 + 4), "12 figures, two finish reasons, three curves at k = 1, 2, 4, two over budgets"
    for path, figure in found.items():
        assert isinstance(figure, dict), f"{path} has no interval"
        assert figure["low"] - 1e-9 <= figure["value"] <= figure["high"] + 1e-9, path
        assert figure["high"] > figure["low"], path
    assert len(scores["learning_effect"]) == 8
    assert scores["undecided_counted_as"] == "wrong" and scores["bootstrap_resamples"] == 1000


def test_metrics_json_reads_back():
    scores = score({"base": rows(aime=3, hmmt=2)}, evaluation(4))
    assert msgspec.json.decode(msgspec.json.encode(scores), type=Scores) == scores


def test_a_subset_is_scored_as_if_it_were_alone():
    everything = rows(aime=4, hmmt=3)
    alone = [row for row in everything if row.subset_for_metrics == "hmmt"]
    subject = score({"base": everything}, evaluation(4)).subjects["base"]
    expected = score({"base": alone}, evaluation(4)).subjects["base"]
    assert list(subject.subsets) == ["aime", "hmmt"] and subject.subsets["hmmt"] == expected.subsets["hmmt"]
    assert subject.subsets["hmmt"].majority_string == expected.majority_string
    assert subject.subsets["hmmt"].lenient.total == 12 and subject.lenient.total == 28
    parts = subject.subsets.values()
    assert sum(part.lenient.count for part in parts) == subject.lenient.count
    assert score({"base": rows()}, evaluation(4)).subjects["base"].subsets == {}


def test_a_problem_of_two_subsets_is_named():
    mixed = rows(aime=2)
    mixed[5].subset_for_metrics = "hmmt"
    with pytest.raises(UserError, match="'aime' and 'hmmt'") as error:
        score({"base": mixed}, evaluation(4))
    assert error.value.where == "problem p1"


def test_counts_are_those_of_the_samples_where_their_numbers_differ():
    uneven = rows(problems=2, samples=8)[:-7]
    subject = score({"base": uneven}, evaluation(1)).subjects["base"]
    assert subject.lenient.count == sum(row.verdict == "right" for row in uneven)
    assert subject.no_answer.count == sum(not row.predicted_answer for row in uneven)
    assert subject.strict.total == subject.samples == 9


@pytest.mark.parametrize("share", [True, False])
def test_many_intervals_at_once_are_those_of_one_each(share):
    draw = np.random.default_rng(0)
    columns = [draw.random(9), draw.random(5), np.where(draw.random(9) < 0.4, np.nan, draw.random(9))]
    metrics = [Metric(str(i), c, tuple(map(str, range(len(c)))), 0.0, share) for i, c in enumerate(columns)]
    together = bootstrap_intervals(metrics, resamples=3000, seed=3)
    for metric, ends in zip(metrics, together):
        assert ends == pytest.approx(bootstrap_interval(metric, resamples=3000, seed=3))
    with pytest.raises(UserError, match="no problem is left"):
        bootstrap_intervals([metrics[0], Metric("x", np.full(2, np.nan), ("a", "b"), 1.0)])


def test_no_difference_but_for_rounding_is_none():
    """Thirds and tenths: their resampled sums are 0 but for the last bits."""
    first = Metric("m", np.array([1 / 3, 0.1, 0.7]), ("a", "b", "c"), 0.0)
    second = Metric("m", np.array([2 / 3 - 1 / 3, 0.3 - 0.2, 0.7]), ("a", "b", "c"), 0.0)
    assert (second.per_problem != first.per_problem).any(), "the test itself has rounding in it"
    [found] = paired_differences([(first, second)], resamples=500)
    assert found.p_value == 1.0


def test_the_papers_benchmark_is_scored_by_its_three_subsets():
    problems = comp_math()
    draw = random.Random(0)
    graded = [
        Trace(
            problem_id=row["id"], sample=s, problem=row["problem"], expected_answer=row["expected_answer"],
            generation="", num_generated_tokens=5, finish_reason="stop", verdict=draw.choice(["right", "wrong"]),
            subset_for_metrics=row["subset_for_metrics"], predicted_answer="1", symbolic_correct=True,
        )
        for row in problems for s in range(2)
    ]  # fmt: skip
    subject = score({"trained": graded}, evaluation(2)).subjects["trained"]
    sizes = {name: part.problems for name, part in subject.subsets.items()}
    assert sizes == Counter(row["subset_for_metrics"] for row in problems)
    assert sizes == {"aime24": 30, "aime25": 30, "hmmt-24-25": 196} and subject.problems == 256
    assert json.loads(msgspec.json.encode(subject))["subsets"]["aime25"]["lenient"]["total"] == 60
